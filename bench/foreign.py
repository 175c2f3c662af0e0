"""Writes clips in the layouts that other projects read, as those projects' own tools write them.

Every layout but NW-UCLA's gets the clips of ``ntu_clips``: one body of 25 joints, with zeros in the place of a second
one where the layout wants two.
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

from crrl_fast.data.clip import Clip
from crrl_fast.data.layouts import KINECT20, NTU25
from crrl_fast.data.synthetic import demo_clips

Array = npt.NDArray[Any]

PADDED_FRAMES = 300
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
        dataset: the name that `crrl-fast prepare` is given.
        write: writes clips into an empty folder.
        joints: the joint layout's name, where the files do not say.
    """

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
            zeros = np.zeros_like(clip.coords)
            frames.append(np.concatenate([clip.coords, zeros], axis=1).reshape(len(clip.coords), 150))
            labels.append(f"{clip.label + 1},{start},{start + len(clip.coords)},2")
            start += len(clip.coords)
        name = f"{sequence + 2:04}-M.txt"
        np.savetxt(folder / "skeleton" / name, np.concatenate(frames), fmt="%.9g")
        (folder / "label" / name).write_text("\n".join(labels) + "\n")
    return Written(folder, clips)


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
    "ucla": Foreign("ucla", write_ucla),
    "ntu-raw": Foreign("ntu60", write_ntu_raw),
    "st-gcn": Foreign("ntu60", write_st_gcn),
    "ctr-gcn": Foreign("ntu60", write_ctr_gcn),
    "pyskl": Foreign("ntu60", write_pyskl),
    "pku-mmd": Foreign("pku1", write_pku_mmd),
}
"""By the name of the reader. CMU is not among them: its files hold joint angles, which positions do not determine."""
