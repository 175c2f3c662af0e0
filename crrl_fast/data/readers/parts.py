"""Data sets whose training and test parts are arrays of padded clips, with their labels beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crrl_fast.data.class_names import class_names_for
from crrl_fast.data.clip import Clip
from crrl_fast.data.info import Split
from crrl_fast.data.layouts import Layout
from crrl_fast.data.readers.arrays import Array
from crrl_fast.data.readers.base import Request
from crrl_fast.data.readers.labels import Labels
from crrl_fast.data.readers.ntu_names import clip_fields
from crrl_fast.data.recording import Recording
from crrl_fast.errors import DataError

TRAIN, TEST = 0, 1
"""Values of ``Clip.fold``."""

Coords = npt.NDArray[np.float32]

_PROTOCOLS = {
    **dict.fromkeys(("xsub", "csub", "cs"), "xsub"),
    **dict.fromkeys(("xview", "cview", "xv", "cv"), "xview"),
    **dict.fromkeys(("xset", "xsetup", "cset", "csetup"), "xset"),
}


@dataclass(frozen=True)
class Part:
    """The training or the test part of a data set.

    Attributes:
        name: ``train``, ``val``, ``test``, ...
        data: its clips along the first axis.
        labels: of the clips.
        names: of the clips; None names them by part and number.
        lengths: frames of each clip; None where a clip ends with its last frame that is not all zeros.
    """

    name: str
    data: Array
    labels: Labels
    names: Sequence[str] | None = None
    lengths: Sequence[int] | None = None

    @property
    def fold(self) -> int:
        """``TRAIN`` where the name says so, else ``TEST``."""
        return TRAIN if "train" in self.name else TEST


def protocol_of(name: str) -> str:
    """Return the protocol that a file or folder name tells: ``xsub``, ``xview``, ``xset``, ``fold3``, or ``file``."""
    for word in re.split(r"[^a-z0-9]+", name.lower()):
        if word in _PROTOCOLS:
            return _PROTOCOLS[word]
        if re.fullmatch(r"fold\d+", word):
            return word
    return "file"


def record(
    request: Request,
    parts: Sequence[Part],
    layout: Layout,
    coords_of: Callable[[object], Coords],
    *,
    protocol: str,
    fps: float | None = None,
) -> Recording:
    """Return the clips of all parts; where some are for training and some for test, that is split ``protocol``.

    Args:
        request: what was asked.
        parts: in order.
        layout: of the joints.
        coords_of: turns a row of ``Part.data`` into (T, M, V, 3) float32, or raises DataError that says why it cannot.
        protocol: name of the split.
        fps: frames a second.
    """
    folds = {part.fold for part in parts if len(part.data)}
    return Recording(
        layout=layout,
        clips=_clips(request, parts, coords_of),
        count=sum(len(part.data) for part in parts),
        class_names=class_names_for(request.dataset, max(part.labels.count for part in parts)),
        fps=fps,
        splits={protocol: Split("fold", (TRAIN,))} if folds == {TRAIN, TEST} else {},
    )


def to_float32(values: object) -> Coords:
    """Return an array of numbers as float32; what is beyond becomes infinite, and is reported as such later.

    Raises:
        DataError: it is no array of numbers.
    """
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(values, dtype=np.float32)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"holds something other than numbers ({error})") from error


def as_bodies(frames: Coords, layout: Layout) -> Coords:
    """Return frames (T, M * V * 3) as (T, M, V, 3)."""
    return frames.reshape(len(frames), frames.shape[1] // (3 * layout.num_joints), layout.num_joints, 3)


def with_z(coords: Coords) -> Coords:
    """Return (..., 2) coordinates as (..., 3) with z = 0, and (..., 3) coordinates as they are."""
    return coords if coords.shape[-1] == 3 else np.concatenate([coords, np.zeros_like(coords[..., :1])], axis=-1)


def _clips(request: Request, parts: Sequence[Part], coords_of: Callable[[object], Coords]) -> Iterator[Clip]:
    for part in parts:
        try:
            for i, row in enumerate(part.data.rows()):
                name = f"{part.name} {i}" if part.names is None else part.names[i]
                try:
                    coords = _recorded(coords_of(row), None if part.lengths is None else part.lengths[i])
                    label = part.labels.at(i)
                except DataError as problem:
                    request.report(DataError(f"{part.data.where}: clip {i} ({name!r}) {problem}"))
                    continue
                if coords.any():
                    yield Clip(name=name, coords=coords, label=label, fold=part.fold, **clip_fields(name))
                else:
                    request.skip(name, "no body was ever seen")
        except DataError as problem:
            request.report(problem)


def _recorded(coords: Coords, length: int | None) -> Coords:
    """Return a copy of the frames before the padding."""
    if length is None:
        seen = np.flatnonzero(coords.any(axis=(1, 2, 3)))
        length = int(seen[-1]) + 1 if len(seen) else 0
    elif not 1 <= length <= len(coords):
        raise DataError(f"has {len(coords)} frames, but its length is given as {length}")
    return coords[:length].copy()
