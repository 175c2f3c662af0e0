"""Writes clips in the layouts of PKU-MMD, CMU mocap and people's own skeletons."""

import csv
import json
import zipfile

import numpy as np

from crrl_fast.data.layouts import CMU31
from crrl_fast.data.readers import READERS, Request

# A figure at rest in CMU's manner: direction, length, axes and degrees of freedom that are not those of any file.
CMU_DOF = dict.fromkeys(CMU31.joints[1:], "rx ry rz") | {
    "lhipjoint": "", "rhipjoint": "", "ltibia": "rx", "rtibia": "rx", "lwrist": "ry", "rwrist": "ry",
    "lfoot": "rx rz", "rfoot": "rx rz", "lclavicle": "ry rz", "rclavicle": "ry rz",
}  # fmt: skip


def write_pku(folder, sequences, labels=None, lists=None, line_end="\n"):
    """Write skeletons {name: (T, 2, 25, 3)}, labels {name: [(class, start, end), ...]} and split lists by file name."""
    for name, frames in sequences.items():
        lines = [" ".join(f"{value:.6f}" for value in frame.ravel()) for frame in frames]
        _write_text(folder / "Data" / "PKU_Skeleton_Renew" / f"{name}.txt", line_end.join([*lines, ""]))
    for name, segments in (labels or {}).items():
        lines = [f"{action},{start},{end},2" for action, start, end in segments]
        _write_text(folder / "Label" / "Train_Label_PKU_final" / f"{name}.txt", line_end.join([*lines, ""]))
    for name, (train, test) in (lists or {}).items():
        text = f"Training videos:\n{', '.join(train)}, \nValidataion videos:\n{', '.join(test)}\n"
        _write_text(folder / "Split" / name, text)
    return folder


def write_cmu(folder, trials, seed=0, line_end="\r\n"):
    """Write a skeleton for each subject and motions {"02_01": T} of random angles (degrees) and root positions."""
    rng = np.random.default_rng(seed)
    for trial, frames in trials.items():
        subject = trial.split("_")[0]
        asf = folder / subject / f"{subject}.asf"
        if not asf.exists():
            _write_text(asf, line_end.join(_asf_lines(np.random.default_rng(seed + int(subject)))))
        lines = ["#!OML:ASF made up", ":FULLY-SPECIFIED", ":DEGREES"]
        for frame in range(1, frames + 1):
            lines.append(str(frame))
            lines.append("root " + " ".join(f"{value:.6g}" for value in rng.uniform(-40, 40, 6)))
            for name, dof in CMU_DOF.items():
                if dof:
                    lines.append(
                        f"{name} " + " ".join(f"{value:.6g}" for value in rng.uniform(-90, 90, len(dof.split())))
                    )
        _write_text(folder / subject / f"{trial}.amc", line_end.join([*lines, ""]))
    return folder


def _asf_lines(rng):
    lines = ["# made up", ":version 1.10", ":name VICON", ":units", "  mass 1.0", "  length 0.45", "  angle deg"]
    lines += [":documentation", "   nothing", ":root", "   order TX TY TZ RX RY RZ", "   axis XYZ"]
    lines += ["   position 0 0 0  ", "   orientation 0 0 0 ", ":bonedata"]
    for i, name in enumerate(CMU31.joints[1:], 1):
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        lines += ["  begin", f"     id {i} ", f"     name {name}"]
        lines += [f"     direction {' '.join(f'{value:.9g}' for value in direction)} "]
        lines += [f"     length {rng.uniform(1, 8):.6g} "]
        lines += [f"     axis {' '.join(f'{value:.6g}' for value in rng.uniform(-90, 90, 3))}   XYZ"]
        if CMU_DOF[name]:
            lines += [f"    dof {CMU_DOF[name]}", "    limits (-160.0 20.0)", "           (-70.0 70.0)"]
        lines += ["  end"]
    lines += [":hierarchy", "  begin"]
    for i, parent in enumerate(CMU31.joints):
        children = [CMU31.joints[child] for child, its_parent in CMU31.bones if its_parent == i]
        if children:
            lines.append(f"    {parent} {' '.join(children)}")
    return [*lines, "  end", ""]


def write_clips(folder, clips, suffix, *, heading=False, mediapipe=False):
    """Write a file for each of the clips {path without suffix: (T, V, C) or (T, M, V, C)}."""
    for name, clip in clips.items():
        path = folder / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".npy":
            np.save(path, clip)
        elif suffix == ".npz":
            np.savez(path, clip)
        elif suffix == ".csv":
            with path.open("w", newline="") as file:
                writer = csv.writer(file)
                if heading:
                    writer.writerow(
                        [f"{joint}_{axis}" for joint in range(clip.shape[1]) for axis in "xyz"[: clip.shape[2]]]
                    )
                writer.writerows(clip.reshape(len(clip), -1).tolist())
        else:
            frames = clip.tolist()
            if mediapipe:
                frames = {
                    "frames": [
                        {"landmarks": [{**dict(zip("xyz", joint, strict=False)), "visibility": 0.5} for joint in frame]}
                        for frame in frames
                    ]
                }
            path.write_text(json.dumps(frames))
    return folder


def zip_folder(folder):
    """Return a zip archive of a folder, with its files in reverse order and a stray hidden one."""
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_file():
                file.write(path, f"{folder.name}/{path.relative_to(folder).as_posix()}")
        file.writestr(f"__MACOSX/{folder.name}/._x.txt", b"\0")
    return archive


def read_clips(reader, source, **request):
    """Return the recording of a source and its clips."""
    recording = READERS[reader].read(Request(source, request.pop("dataset", "own"), **request))
    return recording, list(recording.clips)


def _write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
