"""Preprocessing steps: explicit, composable, and recorded in the store that they made.

A step maps packed clips to packed clips: ``frames`` (F, M, V, 3) float32 with all clips end to end, ``offsets`` (N + 1)
int64 with clip i at ``frames[offsets[i]:offsets[i + 1]]``. Steps treat each clip by itself, and are vectorised over
the packed array, so none loops over clips. A body that is absent in a frame is all zeros there and stays so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from crrl_fast.data.layouts import Layout
from crrl_fast.errors import ConfigError, DataError, shown

Frames = npt.NDArray[np.float32]
Offsets = npt.NDArray[np.int64]

# A body whose spine or hip line is shorter than this (metres) has no orientation or size to normalise by.
_MIN_LENGTH = 1e-4


class Step(Protocol):
    """One preprocessing step; its dataclass fields are its parameters."""

    name: ClassVar[str]

    def __call__(self, frames: Frames, offsets: Offsets, layout: Layout) -> tuple[Frames, Offsets]:
        """Return the processed clips."""
        ...


@dataclass(frozen=True)
class Center:
    """Move the origin to the main body's hip centre in the clip's first frame (where that body is present)."""

    name: ClassVar[str] = "center"

    def __call__(self, frames: Frames, offsets: Offsets, layout: Layout) -> tuple[Frames, Offsets]:
        """Return centred clips of the same lengths."""
        origin = layout.center_of(frames[_first_present(frames, offsets), 0])
        shift = np.repeat(origin, np.diff(offsets), axis=0)[:, None, None]
        return np.where(_present(frames), frames - shift, 0), offsets


@dataclass(frozen=True)
class Rotate:
    """View-invariant rotation: in the first frame the main body's spine points along y and its hips lie along x.

    One rotation a clip, so that turning round stays visible. After Lee et al., ICCV 2017, and Predict & Cluster (Su et
    al., CVPR 2020), whose frame is the same up to the naming of the axes. A clip whose first frame has no spine or no
    hip line is left as it is.
    """

    name: ClassVar[str] = "rotate"

    def __call__(self, frames: Frames, offsets: Offsets, layout: Layout) -> tuple[Frames, Offsets]:
        """Return rotated clips of the same lengths; rotation is about the origin."""
        pose = frames[_first_present(frames, offsets), 0].astype(np.float64)
        left, right = layout.hips
        return _rotated(frames, offsets, _body_axes(layout.torso_of(pose), pose[:, left] - pose[:, right])), offsets


@dataclass(frozen=True)
class Turn:
    """Turn the clip about the vertical, y, so that in the first frame the main body's hips and shoulders lie along x.

    One turn a clip. Other than ``Rotate`` it leaves how far a body leans, which a camera that stands upright sees as it
    is, and a bad estimate of the spine tilts no clip. The line is the mean of hips and shoulders, seen from above; a
    clip whose first frame has none is left as it is.
    """

    name: ClassVar[str] = "turn"

    def __call__(self, frames: Frames, offsets: Offsets, layout: Layout) -> tuple[Frames, Offsets]:
        """Return turned clips of the same lengths; the turn is about the origin."""
        pose = frames[_first_present(frames, offsets), 0].astype(np.float64)
        pairs = [pair for pair in (layout.hips, layout.shoulders) if pair is not None]
        line = np.sum([pose[:, left] - pose[:, right] for left, right in pairs], axis=0)
        upright = np.broadcast_to([0.0, 1.0, 0.0], line.shape)
        return _rotated(frames, offsets, _body_axes(upright, line)), offsets


@dataclass(frozen=True)
class Scale:
    """Divide by the main body's torso length (hip centre to spine top, mean over its frames), so it becomes 1."""

    name: ClassVar[str] = "scale"

    def __call__(self, frames: Frames, offsets: Offsets, layout: Layout) -> tuple[Frames, Offsets]:
        """Return scaled clips of the same lengths."""
        torso = np.linalg.norm(layout.torso_of(frames[:, 0].astype(np.float64)), axis=1)
        total = np.add.reduceat(torso, offsets[:-1])
        present = np.add.reduceat((torso > _MIN_LENGTH).astype(np.int64), offsets[:-1])
        length = np.where(present > 0, total / np.maximum(present, 1), 1.0)
        factor = np.repeat((1.0 / length).astype(np.float32), np.diff(offsets))
        return frames * factor[:, None, None, None], offsets


@dataclass(frozen=True)
class Downsample:
    """Keep at most ``max_frames`` frames of each clip, evenly spread and including the first and the last."""

    max_frames: int = 60
    name: ClassVar[str] = "downsample"

    def __post_init__(self) -> None:
        """Refuse a length that no clip can have."""
        if type(self.max_frames) is not int or self.max_frames < 1:
            raise ConfigError(f"downsample={self.max_frames!r}: the number of frames kept must be at least 1")

    def __call__(self, frames: Frames, offsets: Offsets, layout: Layout) -> tuple[Frames, Offsets]:
        """Return clips of min(T, max_frames) frames; kept frame j of n is the one nearest to j * (T - 1) / (n - 1)."""
        lengths = np.diff(offsets)
        kept = np.minimum(lengths, self.max_frames)
        new_offsets = np.concatenate([[0], np.cumsum(kept)])
        clip = np.repeat(np.arange(len(lengths)), kept)
        j = np.arange(new_offsets[-1]) - new_offsets[clip]
        steps = np.maximum(kept - 1, 1)[clip]
        source = offsets[clip] + (2 * j * (lengths[clip] - 1) + steps) // (2 * steps)
        return frames[source], new_offsets


@dataclass(frozen=True)
class Resample:
    """Make all clips ``frames`` frames long, by linear interpolation between the two nearest; both ends stay.

    Where a body is absent in one of the two, it is that of the nearer one.
    """

    frames: int = 60
    name: ClassVar[str] = "resample"

    def __post_init__(self) -> None:
        """Refuse a length that no clip can have."""
        if type(self.frames) is not int or self.frames < 1:
            raise ConfigError(f"resample={self.frames!r}: the number of frames must be at least 1")

    def __call__(self, frames: Frames, offsets: Offsets, layout: Layout) -> tuple[Frames, Offsets]:
        """Return clips of ``frames`` frames each; frame j of n is at j * (T - 1) / (n - 1)."""
        last = np.repeat(np.diff(offsets) - 1, self.frames)
        first = np.repeat(offsets[:-1], self.frames)
        steps = max(self.frames - 1, 1)
        whole, rest = np.divmod(np.tile(np.arange(self.frames), len(offsets) - 1) * last, steps)
        before, after = frames[first + whole], frames[first + np.minimum(whole + 1, last)]
        weight = (rest / steps).astype(np.float32)[:, None, None, None]
        nearer = np.where(weight < 0.5, before, after)
        moved = np.where(_present(before) & _present(after), before + weight * (after - before), nearer)
        return moved, np.arange(len(offsets)) * self.frames


@dataclass(frozen=True)
class Motion:
    """The motion stream: each frame becomes its difference to the next one, the last frame of a clip zero."""

    name: ClassVar[str] = "motion"

    def __call__(self, frames: Frames, offsets: Offsets, layout: Layout) -> tuple[Frames, Offsets]:
        """Return clips of the same lengths; a body that is absent in either frame does not move."""
        there = _present(frames)
        motion = np.zeros_like(frames)
        np.subtract(frames[1:], frames[:-1], out=motion[:-1], where=there[1:] & there[:-1])
        motion[offsets[1:] - 1] = 0
        return motion, offsets


@dataclass(frozen=True)
class Bone:
    """The bone stream: each joint becomes its difference to its parent; a joint without one becomes zero.

    After Shi et al., 2s-AGCN, CVPR 2019.
    """

    name: ClassVar[str] = "bone"

    def __call__(self, frames: Frames, offsets: Offsets, layout: Layout) -> tuple[Frames, Offsets]:
        """Return clips of the same lengths."""
        bones = np.zeros_like(frames)
        for child, parent in layout.bones:
            bones[:, :, child] = frames[:, :, child] - frames[:, :, parent]
        return bones, offsets


STEPS: dict[str, type[Step]] = {
    step.name: step for step in (Center, Rotate, Turn, Scale, Downsample, Resample, Motion, Bone)
}
# What an encoder may be trained on: the joints themselves, how they move, or the bones between them.
STREAMS: dict[str, tuple[Step, ...]] = {"joint": (), "motion": (Motion(),), "bone": (Bone(),)}
DEFAULT_STEPS: tuple[Step, ...] = (Center(), Rotate(), Downsample())


def apply_steps(frames: Frames, offsets: Offsets, layout: Layout, steps: Sequence[Step]) -> tuple[Frames, Offsets]:
    """Apply ``steps`` in order to packed clips (shapes as in the module's docstring)."""
    for step in steps:
        frames, offsets = step(frames, offsets, layout)
    return frames, offsets


def parse_steps(text: str) -> tuple[Step, ...]:
    """Read steps as the command line writes them: ``center,rotate,scale,downsample=60``; ``none`` is no step.

    Raises:
        ConfigError: a step is unknown or its value is not one it can take.
    """
    if text.strip() in ("", "none"):
        return ()
    return tuple(_parse_step(item.strip()) for item in text.split(","))


def write_steps(steps: Sequence[Step]) -> str:
    """Return the text that ``parse_steps`` reads back as ``steps``."""
    texts = []
    for step in steps:
        values = asdict(step).values()  # type: ignore[call-overload]
        texts.append("=".join((step.name, *map(str, values))))
    return ",".join(texts) or "none"


def describe_steps(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Return the JSON form in which a store records ``steps``."""
    return [{"step": step.name, **asdict(step)} for step in steps]  # type: ignore[call-overload]


def steps_from_record(record: Sequence[dict[str, Any]]) -> tuple[Step, ...]:
    """Rebuild the steps that ``describe_steps`` recorded.

    Raises:
        DataError: the record names a step or a parameter that this version does not know.
    """
    steps = []
    for entry in record:
        parameters = {key: value for key, value in entry.items() if key != "step"}
        try:
            steps.append(STEPS[entry["step"]](**parameters))
        except (KeyError, TypeError) as error:
            raise DataError(
                f"unknown preprocessing step {shown(entry)} in the store's record: upgrade crrl-fast"
            ) from error
    return tuple(steps)


def _parse_step(item: str) -> Step:
    name, _, value = item.partition("=")
    if name not in STEPS:
        raise ConfigError(f"unknown preprocessing step {name!r}: choose from {', '.join(STEPS)}, or none")
    step = STEPS[name]
    parameters = fields(step)  # type: ignore[arg-type]
    if not value:
        return step()
    if not parameters:
        raise ConfigError(f"preprocessing step {name!r} takes no value, but got {value!r}")
    if not value.isdecimal():
        raise ConfigError(f"preprocessing step {item!r}: {value!r} is not a whole number")
    return step(**{parameters[0].name: int(value)})


def _present(frames: Frames) -> npt.NDArray[np.bool_]:
    """Return (F, M, 1, 1): whether a body has any non-zero coordinate in a frame."""
    return np.asarray(frames.any(axis=(2, 3), keepdims=True))


def _first_present(frames: Frames, offsets: Offsets) -> Offsets:
    """Return for each clip (N) its first frame in which the main body is present; its first frame if there is none."""
    present = np.flatnonzero(frames[:, 0].any(axis=(1, 2)))
    following = np.searchsorted(present, offsets[:-1])
    first = np.append(present, offsets[-1])[following]
    return np.where(first < offsets[1:], first, offsets[:-1])


def _rotated(frames: Frames, offsets: Offsets, basis: npt.NDArray[np.float64]) -> Frames:
    """Return the frames of each clip in the axes that are the rows of its ``basis`` (N, 3, 3)."""
    per_frame = np.repeat(basis.astype(np.float32), np.diff(offsets), axis=0)
    return (frames.reshape(len(frames), -1, 3) @ per_frame.swapaxes(1, 2)).reshape(frames.shape)


def _body_axes(spine: npt.NDArray[np.float64], hips: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (N, 3, 3) rotations with rows x (hips, made orthogonal to the spine), y (spine) and z = x cross y."""
    spine_length = np.linalg.norm(spine, axis=1, keepdims=True)
    y = spine / np.maximum(spine_length, _MIN_LENGTH)
    across = hips - np.sum(hips * y, axis=1, keepdims=True) * y
    across_length = np.linalg.norm(across, axis=1, keepdims=True)
    x = across / np.maximum(across_length, _MIN_LENGTH)
    axes = np.stack([x, y, np.cross(x, y)], axis=1)
    defined = (spine_length > _MIN_LENGTH) & (across_length > _MIN_LENGTH)
    return np.where(defined[:, :, None], axes, np.eye(3))
