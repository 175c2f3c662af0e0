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
from crrl_fast.data.layouts.anatomy import SHOULDERS, joints_of_points
from crrl_fast.errors import ConfigError, DataError, shown

Frames = npt.NDArray[np.float32]
Offsets = npt.NDArray[np.int64]

# A body whose spine or hip line is shorter than this (metres) has no orientation or size to normalise by.
_MIN_LENGTH = 1e-4
# Resampling makes clips longer too: what a record names must not fill the memory of whoever reads it.
_MOST_FRAMES = 10_000
_MOST_STEPS = 100


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
    """Rotation about the vertical y alone: in the first frame the main body's sides lie along x, seen from above.

    One rotation a clip, in its first frame in which the main body is present; the left is where x is positive, and a
    body that leans or lies goes on doing so. The sides are the mean of the lines from the right hip to the left and
    from the right shoulder to the left, of which the ground takes the x and z; in a layout that has no shoulders the
    hips alone. A clip whose first frame has no such line is left as it is.
    """

    name: ClassVar[str] = "turn"

    def __call__(self, frames: Frames, offsets: Offsets, layout: Layout) -> tuple[Frames, Offsets]:
        """Return rotated clips of the same lengths; rotation is about the origin."""
        pose = frames[_first_present(frames, offsets), 0].astype(np.float64)
        sides = _sides(pose, layout)[:, [0, 2]]
        length = np.linalg.norm(sides, axis=1, keepdims=True)
        cos, sin = np.where(length > _MIN_LENGTH, sides / np.maximum(length, _MIN_LENGTH), [1.0, 0.0]).T
        axes = np.zeros((len(pose), 3, 3))
        axes[:, 1, 1] = 1
        axes[:, 0, 0] = axes[:, 2, 2] = cos
        axes[:, 0, 2], axes[:, 2, 0] = sin, -sin
        return _rotated(frames, offsets, axes), offsets


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
    """Resample every clip linearly to exactly ``frames`` frames, evenly spread from the first to the last.

    A body that is absent in one of the two frames around a new one is taken from the nearer of them.
    """

    frames: int = 60
    name: ClassVar[str] = "resample"

    def __post_init__(self) -> None:
        """Refuse a length that no clip can have."""
        if type(self.frames) is not int or not 1 <= self.frames <= _MOST_FRAMES:
            raise ConfigError(f"resample={shown(self.frames)}: the number of frames must be 1 to {_MOST_FRAMES}")

    def __call__(self, frames: Frames, offsets: Offsets, layout: Layout) -> tuple[Frames, Offsets]:
        """Return clips of ``self.frames`` frames; frame j of n lies at j * (T - 1) / (n - 1) of the T of the clip."""
        clips, steps = len(offsets) - 1, max(self.frames - 1, 1)
        position = np.arange(self.frames) * (np.diff(offsets) - 1)[:, None]
        before, rest = (part.reshape(-1) for part in np.divmod(position, steps))
        before = np.repeat(offsets[:-1], self.frames) + before
        after = before + (rest > 0)
        start, end = frames[before], frames[after]
        weight = (rest / steps).astype(np.float32)[:, None, None, None]
        weight = np.where(_present(start) & _present(end), weight, (weight >= 0.5).astype(np.float32))
        return start * (1 - weight) + end * weight, np.arange(clips + 1) * self.frames


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
# How a run may turn each clip before that, by its first frame.
ALIGNMENTS: dict[str, tuple[Step, ...]] = {"rotate": (Rotate(),), "turn": (Turn(),), "none": ()}
DEFAULT_STEPS: tuple[Step, ...] = (Center(), Downsample())


def apply_steps(frames: Frames, offsets: Offsets, layout: Layout, steps: Sequence[Step]) -> tuple[Frames, Offsets]:
    """Apply ``steps`` in order to packed clips (shapes as in the module's docstring)."""
    for step in steps:
        frames, offsets = step(frames, offsets, layout)
    return frames, offsets


def effective_steps(steps: Sequence[Step], longest: float, done: Sequence[Step] = ()) -> tuple[Step, ...]:
    """Return ``steps`` without those that leave clips as they are.

    These are down-sampling to as many frames as the clips have or more, and ``rotate`` or ``turn`` where the clips were
    turned in this way already, and in no other since.

    Args:
        steps: to be applied, in order.
        longest: frames that the clips have at most before them.
        done: what was applied to the clips earlier.
    """
    kept = []
    aligned = next((step for step in reversed(done) if isinstance(step, Rotate | Turn)), None)
    for step in steps:
        if isinstance(step, Rotate | Turn):
            if step == aligned:
                continue
            aligned = step
        elif isinstance(step, Resample):
            longest = step.frames
        elif isinstance(step, Downsample):
            if step.max_frames >= longest:
                continue
            longest = step.max_frames
        kept.append(step)
    return tuple(kept)


def parse_steps(text: str) -> tuple[Step, ...]:
    """Read steps as the command line writes them: ``center,scale,downsample=60``; ``none`` is no step.

    Raises:
        ConfigError: a step is unknown or its value is not one it can take, or there are too many.
    """
    if text.count(",") >= _MOST_STEPS:
        raise ConfigError(f"{text.count(',') + 1} preprocessing steps: at most {_MOST_STEPS} are taken")
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
        DataError: the record names a step or a parameter that this version does not know, or too many steps.
    """
    if len(record) > _MOST_STEPS:
        raise DataError(f"{len(record)} preprocessing steps in the store's record: at most {_MOST_STEPS} are taken")
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


def _rotated(frames: Frames, offsets: Offsets, axes: npt.NDArray[np.float64]) -> Frames:
    """Return packed clips whose coordinates are those along ``axes`` (N, 3, 3), the rows x, y and z of each clip."""
    per_frame = np.repeat(axes.astype(np.float32), np.diff(offsets), axis=0)
    flat = frames.reshape(len(frames), -1, 3)
    return (flat @ per_frame.swapaxes(1, 2)).reshape(frames.shape)


def _sides(pose: npt.NDArray[np.float64], layout: Layout) -> npt.NDArray[np.float64]:
    """Return (N, 3) from right to left in poses (N, V, 3): the mean of hip and shoulder line, or the hip line alone."""
    left, right = layout.hips
    hips = pose[:, left] - pose[:, right]
    points = joints_of_points(layout)
    if not set(SHOULDERS) <= points.keys():
        return hips
    left_shoulder, right_shoulder = (pose[:, points[name]].mean(axis=1) for name in SHOULDERS)
    return np.asarray((hips + left_shoulder - right_shoulder) / 2)


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
