"""NW-UCLA as researchers have it: ``all_sqe`` with one JSON file a clip, from CTR-GCN's release.

The data set is Wang, Nie, Xia, Wu, Zhu, CVPR 2014 (Northwestern-UCLA Multiview Action 3D).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from crrl_fast.data.clip import Clip
from crrl_fast.data.info import Split
from crrl_fast.data.layouts import KINECT20
from crrl_fast.data.readers.base import Reader, Request
from crrl_fast.data.readers.source import count_files, open_source
from crrl_fast.data.recording import Recording
from crrl_fast.errors import DataError

CLASS_NAMES = (
    "pick up with one hand",
    "pick up with two hands",
    "drop trash",
    "walk around",
    "sit down",
    "stand up",
    "donning",
    "doffing",
    "throw",
    "carry",
)
FPS = 30.0
SPLITS = {"xview": Split(field="camera", train=(1, 2))}

_NAME = re.compile(r"a(?P<action>\d+)_s(?P<subject>\d+)_e(?P<episode>\d+)_v(?P<view>\d+)")


def recognise(source: Path) -> str | None:
    """Look for files named ``aAA_sSS_eEE_vVV.json``."""
    count = count_files(source, re.compile(_NAME.pattern + r"\.json"))
    return f"NW-UCLA: {count} JSON clips" if count else None


def read(request: Request) -> Recording:
    """Read the zip or the unpacked folder, in the order of the clips' names.

    Problems name the file and what is wrong with it: its name, JSON, shape, label, or a value.
    """
    return Recording(KINECT20, _clips(request), None, CLASS_NAMES, FPS, SPLITS)


def _clips(request: Request) -> Iterator[Clip]:
    with open_source(request.source, ".json") as files:
        for path, content in files:
            try:
                yield _parse_clip(f"{request.source}: {path}", PurePosixPath(path).stem, content())
            except DataError as problem:
                request.report(problem)


READER = Reader("ucla", "NW-UCLA, one JSON file a clip", recognise, read)


def _parse_clip(where: str, stem: str, content: bytes) -> Clip:
    match = _NAME.fullmatch(stem)
    if match is None:
        raise DataError(f"{where}: the name is not aAA_sSS_eEE_vVV.json")
    try:
        values = json.loads(content)
        skeletons, label = values["skeletons"], values["label"]
    except (ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
        raise DataError(f"{where}: not a JSON clip with `skeletons` and `label` ({error!r})") from error
    if type(label) is not int or not 1 <= label <= len(CLASS_NAMES):
        raise DataError(f"{where}: label {label!r} is not a whole number from 1 to {len(CLASS_NAMES)}")
    return Clip(
        name=stem,
        coords=_parse_skeletons(where, skeletons),
        label=label - 1,
        subject=int(match["subject"]),
        camera=int(match["view"]),
        replication=int(match["episode"]),
    )


def _parse_skeletons(where: str, skeletons: object) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    try:
        with np.errstate(over="ignore"):  # a value beyond float32 becomes inf, and is reported below
            coords = np.array(skeletons, dtype=np.float32)
    except (ValueError, TypeError, OverflowError, MemoryError) as error:
        raise DataError(f"{where}: skeletons are not (frames, {KINECT20.num_joints}, 3) numbers ({error})") from error
    if coords.ndim != 3 or coords.shape[0] < 1 or coords.shape[1:] != (KINECT20.num_joints, 3):
        raise DataError(
            f"{where}: skeletons have shape {coords.shape}, expected (frames, {KINECT20.num_joints}, 3) with at least "
            "one frame"
        )
    if not np.isfinite(coords).all():
        frame, joint, axis = np.argwhere(~np.isfinite(coords))[0]
        raise DataError(
            f"{where}: {coords[frame, joint, axis]} at frame {frame}, joint {KINECT20.joints[joint]!r}, "
            f"coordinate {'xyz'[axis]}: repair or remove that file"
        )
    return coords[:, None]
