"""Writers of other projects' layouts: each writes the same clips as that project's own scripts would.

A clip of fold 0 goes to the training part, of fold 1 to the other; ``frames`` is the length that clips are padded to.
"""

import pickle

import numpy as np

from crrl_fast.data.clip import Clip

PARTS = (("train", 0), ("val", 1))


def make_clips(count=6, *, joints=25, bodies=2, longest=9, classes=60, seed=0):
    """Return clips with NTU names, of which every third is for test."""
    rng = np.random.default_rng(seed)
    clips = []
    for i in range(count):
        coords = rng.normal(size=(int(rng.integers(2, longest + 1)), bodies, joints, 3)).astype(np.float32)
        if i % 2:
            coords[:, 1:] = 0
        label = int(rng.integers(classes))
        fields = {"setup": 1 + i % 17, "camera": 1 + i % 3, "subject": 1 + i % 40, "replication": 1 + i // 40 % 1000}
        setup, camera, subject, replication = fields.values()
        name = f"S{setup:03}C{camera:03}P{subject:03}R{replication:03}A{label + 1:03}"
        clips.append(Clip(name, coords, label, **fields, fold=int(i % 3 == 2)))
    return clips


def padded(clips, frames=None):
    """Return clips as (N, T, M, V, 3), with zeros after their last frame."""
    frames = frames or max((len(clip.coords) for clip in clips), default=1)
    out = np.zeros((len(clips), frames, *(clips[0].coords.shape[1:] if clips else (2, 25, 3))), np.float32)
    for row, clip in zip(out, clips, strict=True):
        row[: len(clip.coords)] = clip.coords
    return out


def of_fold(clips, fold):
    """Return the clips of one part."""
    return [clip for clip in clips if clip.fold == fold]


def write_stgcn(folder, clips, *, frames=12, kind="data", labels="pkl", num_frame=False, protocol=2):
    """Write ``train_data.npy`` (N, 3, T, V, M), labels and so on into ``folder``, as ST-GCN and AimCLR do."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, fold in PARTS:
        chosen = of_fold(clips, fold)
        np.save(folder / f"{part}_{kind}.npy", padded(chosen, frames).transpose(0, 4, 1, 3, 2))
        values = [clip.label for clip in chosen]
        if labels == "pkl":
            names = [f"{clip.name}.skeleton" for clip in chosen]
            (folder / f"{part}_label.pkl").write_bytes(pickle.dumps((names, values), protocol=protocol))
        else:
            np.save(folder / f"{part}_label.npy", np.array(values)[:, None])
        if num_frame:
            np.save(folder / f"{part}_num_frame.npy", [len(clip.coords) for clip in chosen])
    return folder


def write_ctrgcn(path, clips, *, frames=12, axes="NTD", one_hot=np.float64, compressed=False):
    """Write ``x_train``, ``y_train``, ``x_test``, ``y_test``; ``one_hot`` is its dtype, None writes class indices."""
    arrays = {}
    for part, fold in (("train", 0), ("test", 1)):
        chosen = of_fold(clips, fold)
        x = padded(chosen, frames)
        arrays[f"x_{part}"] = {
            "NTD": x.reshape(*x.shape[:2], -1),
            "NTMVC": x,
            "NCTVM": np.ascontiguousarray(x.transpose(0, 4, 1, 3, 2)),
        }[axes]
        values = np.array([clip.label for clip in chosen], dtype=np.int64)
        arrays[f"y_{part}"] = values if one_hot is None else np.eye(60, dtype=one_hot)[values]
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def write_pyskl(path, clips, *, lists=None, dimensions=3, protocol=4):
    """Write ``{split, annotations}``; absent bodies are left out, as PYSKL does."""
    annotations = []
    for clip in clips:
        bodies = [body for body in range(clip.coords.shape[1]) if clip.coords[:, body].any()]
        keypoint = np.ascontiguousarray(clip.coords[:, bodies].transpose(1, 0, 2, 3)[..., :dimensions])
        annotation = {"frame_dir": clip.name, "label": clip.label, "keypoint": keypoint}
        if dimensions == 2:
            annotation |= {"keypoint_score": np.ones(keypoint.shape[:3], np.float16), "img_shape": (1080, 1920)}
        annotations.append(annotation | {"total_frames": len(clip.coords)})
    if lists is None:
        lists = {f"xsub_{part}": [clip.name for clip in of_fold(clips, fold)] for part, fold in PARTS}
    path.write_bytes(pickle.dumps({"split": lists, "annotations": annotations}, protocol=protocol))
    return path


def write_crrl(folder, clips, *, as_lists=False, padded_numbers=False):
    """Write ``train_data.npy``, an array of (T, D) objects or padded numbers, with labels and lengths beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, fold in PARTS:
        chosen = of_fold(clips, fold)
        data = np.empty(len(chosen), dtype=object)
        for i, clip in enumerate(chosen):
            frames = clip.coords.reshape(len(clip.coords), -1)
            data[i] = frames.tolist() if as_lists else frames
        if padded_numbers:
            data = padded(chosen).reshape(len(chosen), -1, chosen[0].coords[0].size)
        np.save(folder / f"{part}_data.npy", data, allow_pickle=True)
        np.save(folder / f"{part}_speed.npy", data, allow_pickle=True)
        np.save(folder / f"{part}_label.npy", np.array([clip.label for clip in chosen], dtype=np.float64))
        np.save(folder / f"{part}_num_frame.npy", [len(clip.coords) for clip in chosen])
    return folder
