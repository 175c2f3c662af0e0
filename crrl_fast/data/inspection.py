"""What is in a store: counts, lengths, bodies, ranges and splits, in memory that grows by a few bytes a frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crrl_fast.data.clip import UNKNOWN
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError

BINS = 24
"""Bars of the length histogram."""

_BLOCK_FRAMES = 1 << 14
"""Frames that are looked at together: 10 MB of two 25-joint bodies."""


@dataclass(frozen=True)
class Lengths:
    """Frames a clip.

    Attributes:
        shortest: of all clips; so too ``p10``, ``median``, ``p90`` and ``longest``.
        histogram: clips in each of ``BINS`` ranges of the same width, from ``shortest`` to ``longest``.
    """

    shortest: int
    p10: float
    median: float
    p90: float
    longest: int
    histogram: tuple[int, ...]


@dataclass(frozen=True)
class Bodies:
    """Who is there. A body that is absent from a frame is all zeros.

    Attributes:
        frames_present: for each body, the share of frames that it is in.
        clips_with_second: share of clips in which more than the first body ever appears.
        frames_without_any: share of frames that no body is in.
    """

    frames_present: tuple[float, ...]
    clips_with_second: float
    frames_without_any: float


@dataclass(frozen=True)
class NotFinite:
    """NaN and infinite values; packing refuses them, so a store that has any was changed later.

    Attributes:
        values: how many numbers.
        clips: how many clips have one.
        first_clip: name of the first of these; empty where there is none.
    """

    values: int
    clips: int
    first_clip: str


@dataclass(frozen=True)
class SplitSizes:
    """A split.

    Attributes:
        field: what it goes by.
        train: clips for training.
        test: clips for testing.
    """

    field: str
    train: int
    test: int


@dataclass(frozen=True)
class Inspection:
    """What is in a store.

    Attributes:
        path: of the file.
        file_bytes: its size.
        dataset: name of the data set.
        clips: number of clips.
        frames: number of frames.
        classes: clips of each class, in label order.
        unlabelled: clips without a label.
        lengths: frames a clip.
        layout: name of the joint layout.
        joints: number of joints a body.
        bodies: who is there.
        not_finite: NaN and infinite values.
        ranges: lowest and highest finite coordinate of each axis, of the bodies that are there; None where none is.
        fps: frames a second of the recording; None where unknown.
        splits: by name; the first is the default.
        preprocessing: the steps that were applied, with their parameters.
        sha256: of the tensors, as the store records it.
        intact: whether the tensors still have that hash.
    """

    path: str
    file_bytes: int
    dataset: str
    clips: int
    frames: int
    classes: dict[str, int]
    unlabelled: int
    lengths: Lengths
    layout: str
    joints: int
    bodies: Bodies
    not_finite: NotFinite
    ranges: dict[str, tuple[float, float] | None]
    fps: float | None
    splits: dict[str, SplitSizes]
    preprocessing: tuple[dict[str, Any], ...]
    sha256: str
    intact: bool


def inspect_store(store: Store, path: Path) -> Inspection:
    """Go through all frames of an open store, block by block."""
    info = store.info
    labels = store.labels.numpy()
    bodies, not_finite, ranges = _survey_frames(store)
    counts = np.bincount(labels[labels != UNKNOWN], minlength=len(info.class_names))
    return Inspection(
        path=str(path),
        file_bytes=path.stat().st_size,
        dataset=info.dataset,
        clips=len(store),
        frames=len(store.frames),
        classes={name: int(count) for name, count in zip(info.class_names, counts, strict=True)},
        unlabelled=int((labels == UNKNOWN).sum()),
        lengths=_survey_lengths(store.lengths.numpy()),
        layout=info.layout.name,
        joints=info.layout.num_joints,
        bodies=bodies,
        not_finite=not_finite,
        ranges=ranges,
        fps=info.fps,
        splits={name: _split_sizes(store, name) for name in info.splits},
        preprocessing=info.preprocessing,
        sha256=info.sha256,
        intact=store.digest() == info.sha256,
    )


def _survey_lengths(lengths: npt.NDArray[np.int64]) -> Lengths:
    p10, median, p90 = (float(value) for value in np.percentile(lengths, (10, 50, 90)))
    histogram, _ = np.histogram(lengths, BINS, (lengths.min(), lengths.max()))
    return Lengths(int(lengths.min()), p10, median, p90, int(lengths.max()), tuple(histogram.tolist()))


def _survey_frames(store: Store) -> tuple[Bodies, NotFinite, dict[str, tuple[float, float] | None]]:
    frames = len(store.frames)
    present = np.empty((frames, store.info.bodies), dtype=np.bool_)
    bad = np.zeros(frames, dtype=np.int32)
    lowest, highest = np.full(3, np.inf), np.full(3, -np.inf)
    for rows, block in _blocks(store):
        present[rows] = (block != 0).any(axis=2)
        there = block[present[rows]]
        finite = np.isfinite(block)
        if not finite.all():
            bad[rows] = np.count_nonzero(~finite, axis=(1, 2))
            there = np.where(np.isfinite(there), there, np.nan)
        # fmin and fmax pass over NaN. All joints first, then their axes: long rows are what NumPy reduces fast.
        lowest = np.fmin(lowest, np.fmin.reduce(there, axis=0, initial=np.inf).reshape(-1, 3).min(axis=0))
        highest = np.fmax(highest, np.fmax.reduce(there, axis=0, initial=-np.inf).reshape(-1, 3).max(axis=0))
    starts = store.offsets.numpy()[:-1]
    bad_clips = np.flatnonzero(np.add.reduceat(bad, starts))
    bodies = Bodies(
        frames_present=tuple(present.mean(axis=0).tolist()),
        clips_with_second=float(np.logical_or.reduceat(present[:, 1:].any(axis=1), starts).mean()),
        frames_without_any=1.0 - float(present.any(axis=1).mean()),
    )
    not_finite = NotFinite(
        values=int(bad.sum(dtype=np.int64)),
        clips=len(bad_clips),
        first_clip=store.info.clip_names[bad_clips[0]] if len(bad_clips) else "",
    )
    ranges = {
        axis: (float(low), float(high)) if low <= high else None
        for axis, low, high in zip("xyz", lowest, highest, strict=True)
    }
    return bodies, not_finite, ranges


def _blocks(store: Store) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    """Yield rows and their frames (F, M, V * 3), views of the store."""
    frames = store.frames.view(-1, store.info.bodies, store.layout.num_joints * 3).numpy()
    for start in range(0, len(frames), _BLOCK_FRAMES):
        rows = slice(start, start + _BLOCK_FRAMES)
        yield rows, frames[rows]


def _split_sizes(store: Store, name: str) -> SplitSizes:
    field = store.info.splits[name].field
    try:
        train, test = store.split(name)
    except ConfigError:  # a split without training clips cannot be used, but can be described
        values = getattr(store, field)
        return SplitSizes(field, 0, int((values != UNKNOWN).sum()))
    return SplitSizes(field, len(train), len(test))


def find_clip(store: Store, text: str) -> int:
    """Return the index of the clip of that name or number.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    names = store.info.clip_names
    if text in names:
        return names.index(text)
    if text.removeprefix("-").isdecimal():
        if 0 <= int(text) < len(store):
            return int(text)
        raise ConfigError(f"no clip {text} in data set {store.info.dataset!r}: clips are 0 to {len(store) - 1}")
    from difflib import get_close_matches

    near = get_close_matches(text, names, n=3, cutoff=0.5) or names[:3]
    raise ConfigError(
        f"no clip {text!r} in data set {store.info.dataset!r}: give a number from 0 to {len(store) - 1} or a name "
        f"such as {', '.join(near)}"
    )
