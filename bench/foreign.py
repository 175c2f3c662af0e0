"""Writes clips in the layouts that other projects read, as those projects' own tools write them.

All get the clips of ``ntu_clips``, one body of 25 joints, with zeros in the place of a second one where the layout
wants two; NW-UCLA gets 20 of the joints, and CMU, whose files hold angles, no more than the way that a body takes.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crrl_fast.data.clip import UNKNOWN, Clip
from crrl_fast.data.layouts import KINECT20, NTU25
from crrl_fast.data.synthetic import demo_clips

Array = npt.NDArray[Any]

PADDED_FRAMES = 300
CMU_BONES = {
    **{"lhipjoint": "root", "lfemur": "lhipjoint", "ltibia": "lfemur", "lfoot": "ltibia", "ltoes": "lfoot"},
    **{"rhipjoint": "root", "rfemur": "rhipjoint", "rtibia": "rfemur", "rfoot": "rtibia", "rtoes": "rfoot"},
    **{"lowerback": "root", "upperback": "lowerback", "thorax": "upperback"},
    **{"lowerneck": "thorax", "upperneck": "lowerneck", "head": "upperneck"},
    **{"lclavicle": "thorax", "lhumerus": "lclavicle", "lradius": "lhumerus", "lwrist": "lradius"},
    **{"lhand": "lwrist", "lfingers": "lhand", "lthumb": "lwrist"},
    **{"rclavicle": "thorax", "rhumerus": "rclavicle", "rradius": "rhumerus", "rwrist": "rradius"},
    **{"rhand": "rwrist", "rfingers": "rhand", "rthumb": "rwrist"},
}
"""Bones and their parents, as the database's skeletons have them."""

# Subjects of NTU RGB+D 60 whose clips train, cross-subject (Shahroudy et al., CVPR 2016).
TRAINING_SUBJECTS = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
# NTU RGB+D itself has replications 1 and 2, so no clip from here on is on its list of missing skeletons.
FIRST_REPLICATION = 3


@dataclass(frozen=True)
class Written:
    """What a writer made.

    Attributes:
        source: what `crrl-fast prepare` is given.
        clips: what it has to read, in the order of the files.
    """

    source: Path
    clips: Sequence[Clip]


@dataclass(frozen=True)
class Foreign:
    """A foreign layout.

    Attributes:
        reader: its reader's name.
        dataset: the name that `crrl-fast prepare` is given.
        write: writes clips into an empty folder.
        joints: the joint layout's name, where the files do not say.
    """

    reader: str
    dataset: str
    write: Callable[[Path, Sequence[Clip]], Written]
    joints: str | None = None


def ntu_clips(number: int) -> list[Clip]:
    """Return clips of the generated set under several seeds, named as those of NTU RGB+D and sorted by name."""
    return sorted(islice(_renamed_clips(), number), key=lambda clip: clip.name)


def _renamed_clips() -> Iterator[Clip]:
    for seed in count():
        replication = FIRST_REPLICATION + seed
        for clip in demo_clips(seed):
            name = f"S001C{clip.camera:03}P{clip.subject:03}R{replication:03}A{clip.label + 1:03}"
            yield replace(clip, name=name, setup=1, replication=replication)


def write_ucla(folder: Path, clips: Sequence[Clip]) -> Written:
    """One JSON file a clip: the 20 joints of the first Kinect, and the first ten labels."""
    kinect_names = {"hip_center": "spine_base", "spine": "spine_mid", "shoulder_center": "spine_shoulder"}
    joints = [NTU25.joints.index(kinect_names.get(joint, joint)) for joint in KINECT20.joints]
    written = []
    for i, clip in enumerate(clips):
        name = f"a{clip.label % 10 + 1:02}_s{clip.subject:02}_e{i:05}_v{clip.camera:02}"
        written.append(replace(clip, name=name, label=clip.label % 10, coords=clip.coords[:, :, joints]))
        content = {"file_name": name, "skeletons": written[-1].coords[:, 0].tolist(), "label": clip.label % 10 + 1}
        (folder / f"{name}.json").write_text(json.dumps(content))
    return Written(folder, sorted(written, key=lambda clip: clip.name))


def write_ntu_raw(folder: Path, clips: Sequence[Clip]) -> Written:
    """One ``.skeleton`` file a clip; of a joint's twelve columns the nine after its position are made up."""
    for clip in clips:
        lines = [str(len(clip.coords))]
        for pose in clip.coords[:, 0]:
            lines += ["1", "72057594037931101 0 1 1 1 1 0 0.02764709 0.05745083 2", "25"]
            lines += [f"{x:.9g} {y:.9g} {z:.9g} 277.419 191.8218 1036.233 519.1677 0 0 0 1 2" for x, y, z in pose]
        (folder / f"{clip.name}.skeleton").write_text("\n".join(lines) + "\n")
    return Written(folder, clips)


def write_st_gcn(folder: Path, clips: Sequence[Clip]) -> Written:
    """Padded arrays (N, C, T, V, M) and a pickle of names and labels, for each part of the split."""
    parts = _parts(clips)
    for part, members in zip(("train", "val"), parts, strict=True):
        shape = (len(members), 3, PADDED_FRAMES, NTU25.num_joints, 2)
        data = np.lib.format.open_memmap(folder / f"{part}_data.npy", mode="w+", dtype=np.float32, shape=shape)
        for row, clip in zip(data, members, strict=True):
            row[:, : len(clip.coords), :, 0] = clip.coords[:, 0].transpose(2, 0, 1)
        names = [f"{clip.name}.skeleton" for clip in members]
        with (folder / f"{part}_label.pkl").open("wb") as file:
            pickle.dump((names, [clip.label for clip in members]), file)
    return Written(folder, [*parts[0], *parts[1]])


def write_ctr_gcn(folder: Path, clips: Sequence[Clip]) -> Written:
    """One ``.npz`` of padded frames (N, T, 150) and one-hot labels, for each part of the split."""
    parts = _parts(clips)
    (x_train, y_train), (x_test, y_test) = (_padded(members) for members in parts)
    np.savez(folder / "NTU60_CS.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return Written(folder / "NTU60_CS.npz", [*parts[0], *parts[1]])


def write_pyskl(folder: Path, clips: Sequence[Clip]) -> Written:
    """One pickle of annotations, keypoints (M, T, V, C), and the names of each part of the split."""
    annotations = [
        {
            "frame_dir": clip.name,
            "label": clip.label,
            "total_frames": len(clip.coords),
            "keypoint": np.ascontiguousarray(clip.coords.transpose(1, 0, 2, 3)),
        }
        for clip in clips
    ]
    train, val = ([clip.name for clip in part] for part in _parts(clips))
    with (folder / "ntu60_3danno.pkl").open("wb") as file:
        pickle.dump({"split": {"xsub_train": train, "xsub_val": val}, "annotations": annotations}, file)
    return Written(folder / "ntu60_3danno.pkl", clips)


def write_pku_mmd(folder: Path, clips: Sequence[Clip]) -> Written:
    """Text of 150 numbers a line, clips behind each other in a sequence, and a text of labels and segments for each."""
    (folder / "skeleton").mkdir()
    (folder / "label").mkdir()
    per_sequence = 20
    for sequence in range(-(-len(clips) // per_sequence)):
        frames, labels, start = [], [], 0
        for clip in clips[sequence * per_sequence : (sequence + 1) * per_sequence]:
            frames.append(_two_bodies(clip))
            labels.append(f"{clip.label + 1},{start},{start + len(clip.coords)},2")
            start += len(clip.coords)
        name = f"{sequence + 2:04}-M.txt"
        np.savetxt(folder / "skeleton" / name, np.concatenate(frames), fmt="%.9g")
        (folder / "label" / name).write_text("\n".join(labels) + "\n")
    return Written(folder, clips)


def write_crrl(folder: Path, clips: Sequence[Clip]) -> Written:
    """For each part of the split an array of N objects, each a clip (T, 150), with its lengths and labels beside it."""
    parts = _parts(clips)
    for part, members in zip(("train", "val"), parts, strict=True):
        data = np.empty(len(members), dtype=object)
        data[:] = [_two_bodies(clip) for clip in members]
        np.save(folder / f"{part}_data.npy", data, allow_pickle=True)
        np.save(folder / f"{part}_num_frame.npy", np.array([len(clip.coords) for clip in members]))
        np.save(folder / f"{part}_label.npy", np.array([clip.label for clip in members], dtype=np.float64))
    return Written(folder, [*parts[0], *parts[1]])


def write_cmu(folder: Path, clips: Sequence[Clip]) -> Written:
    """One ASF skeleton and one AMC motion a clip: a stiff body that goes where the clip's first joint goes.

    Its bones have angles, all 0, and lengths as in the database's own files, in inches over 0.45; 120 frames a second.
    """
    unit = 0.0254 / 0.45  # metres
    ends = {"root": np.zeros(3)}
    bones: list[str] = []
    for bone, parent in CMU_BONES.items():
        direction = {"l": (1, 0, 0), "r": (-1, 0, 0)}.get(bone[0], (0, 1, 0))
        ends[bone] = ends[parent] + 5 * np.array(direction)
        lines = [f"name {bone}", "direction {} {} {}".format(*direction), "length 5", "axis 0 0 0  XYZ", "dof rx ry rz"]
        bones.append("".join(f"  {line}\n" for line in ("begin", f"id {len(bones) + 1}", *lines, "end")))
    hierarchy = "".join(f"    {parent} {bone}\n" for bone, parent in CMU_BONES.items())
    skeleton = (
        ":version 1.10\n:name VICON\n:units\n  mass 1.0\n  length 0.45\n  angle deg\n"
        ":root\n  order TX TY TZ RX RY RZ\n  axis XYZ\n  position 0 0 0\n  orientation 0 0 0\n"
        f":bonedata\n{''.join(bones)}:hierarchy\n  begin\n{hierarchy}  end\n"
    )
    still = "".join(f"{bone} 0 0 0\n" for bone in CMU_BONES)
    written = []
    for i, clip in enumerate(clips):
        name = f"{i // 100 + 1:02}_{i % 100 + 1:02}"
        path = clip.coords[:, 0, 0].astype(np.float64)
        frames = [
            f"{frame}\nroot {x:.17g} {y:.17g} {z:.17g} 0 0 0\n{still}"
            for frame, (x, y, z) in enumerate(np.repeat(path / unit, 4, axis=0), 1)
        ]
        (folder / f"{name}.amc").write_text(":FULLY-SPECIFIED\n:DEGREES\n" + "".join(frames))
        (folder / f"{name[:2]}.asf").write_text(skeleton)
        coords = path[:, None, None] + np.stack(list(ends.values())) * unit
        written.append(replace(clip, name=name, label=UNKNOWN, coords=coords.astype(np.float32)))
    return Written(folder, written)


def write_npz(folder: Path, clips: Sequence[Clip]) -> Written:
    """One ``.npz`` with an array (T, V, 3) a clip, called as the clip."""
    np.savez(folder / "clips.npz", allow_pickle=False, **{clip.name: clip.coords[:, 0] for clip in clips})
    return Written(folder / "clips.npz", _unlabelled(clips))


def write_csv(folder: Path, clips: Sequence[Clip]) -> Written:
    """One ``.csv`` a clip, called as the clip, a frame of 75 numbers a line."""
    for clip in clips:
        np.savetxt(folder / f"{clip.name}.csv", clip.coords.reshape(len(clip.coords), -1), fmt="%.9g", delimiter=",")
    return Written(folder, _unlabelled(clips))


def write_json(folder: Path, clips: Sequence[Clip]) -> Written:
    """One ``.json`` a clip, called as the clip: lists of frames of joints."""
    for clip in clips:
        (folder / f"{clip.name}.json").write_text(json.dumps(clip.coords[:, 0].tolist()))
    return Written(folder, _unlabelled(clips))


def _unlabelled(clips: Sequence[Clip]) -> list[Clip]:
    return [replace(clip, label=UNKNOWN) for clip in clips]


def _two_bodies(clip: Clip) -> Array:
    """Return (T, 150), the second body zeros."""
    return np.concatenate([clip.coords, np.zeros_like(clip.coords)], axis=1).reshape(len(clip.coords), 150)


def _padded(clips: Sequence[Clip]) -> tuple[Array, Array]:
    """Return (N, 300, 150) frames of two bodies and (N, 60) one-hot labels."""
    frames = np.zeros((len(clips), PADDED_FRAMES, 150), dtype=np.float32)
    for row, clip in zip(frames, clips, strict=True):
        row[: len(clip.coords), :75] = clip.coords.reshape(len(clip.coords), 75)
    return frames, np.eye(60)[[clip.label for clip in clips]]


def _parts(clips: Sequence[Clip]) -> tuple[list[Clip], list[Clip]]:
    train = [clip for clip in clips if clip.subject in TRAINING_SUBJECTS]
    return train, [clip for clip in clips if clip.subject not in TRAINING_SUBJECTS]


LAYOUTS: dict[str, Foreign] = {
    "ucla": Foreign("ucla", "ucla", write_ucla),
    "ntu-raw": Foreign("ntu-raw", "ntu60", write_ntu_raw),
    "st-gcn": Foreign("st-gcn", "ntu60", write_st_gcn),
    "ctr-gcn": Foreign("ctr-gcn", "ntu60", write_ctr_gcn),
    "pyskl": Foreign("pyskl", "ntu60", write_pyskl),
    "crrl": Foreign("crrl", "pku1", write_crrl),
    "pku-mmd": Foreign("pku-mmd", "pku1", write_pku_mmd),
    "cmu": Foreign("cmu", "cmu", write_cmu),
    "clips: npz": Foreign("clips", "own", write_npz, joints="ntu25"),
    "clips: csv": Foreign("clips", "own", write_csv, joints="ntu25"),
    "clips: json": Foreign("clips", "own", write_json, joints="ntu25"),
}
