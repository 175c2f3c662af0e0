"""Clips on their way into a store: checked, preprocessed, and packed end to end a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from crrl_fast.data.clip import UNKNOWN, Clip
from crrl_fast.data.finite import not_finite
from crrl_fast.data.info import SPLIT_FIELDS
from crrl_fast.data.layouts import Layout
from crrl_fast.data.preprocess import Frames, Step, apply_steps
from crrl_fast.data.recording import Report
from crrl_fast.errors import DataError

COLUMNS = ("label", *SPLIT_FIELDS)
"""What a store keeps of each clip besides its frames and its name."""

BLOCK_FRAMES = 1 << 15
"""Frames that are held back and preprocessed together: 20 MB of two 25-joint bodies."""


class Packer:
    """Takes clips one by one and hands on blocks of frames, so that memory does not grow with the data set.

    Args:
        dataset: its name, for messages.
        layout: of the joints.
        num_classes: labels are below it.
        steps: preprocessing.
        sink: gets (F, M, V, 3) float32, the frames of some clips end to end.
    """

    def __init__(
        self, dataset: str, layout: Layout, num_classes: int, steps: Sequence[Step], sink: Callable[[Frames], object]
    ) -> None:
        self.dataset = dataset
        self.layout = layout
        self.num_classes = num_classes
        self.steps = steps
        self.bodies = 0
        self.names: dict[str, None] = {}
        self._sink = sink
        self._lengths: list[int] = []
        self._columns: dict[str, list[int]] = {column: [] for column in COLUMNS}
        self._held: list[npt.NDArray[np.float32]] = []
        self._held_frames = 0

    def add(self, clip: Clip) -> None:
        """Take a clip.

        Raises:
            DataError: its name stands twice, or it has another shape than (T >= 1, M, V, 3), a value that is not
                finite, or a label without a class name.
        """
        if not self.names:
            self.bodies = clip.coords.shape[1] if clip.coords.ndim == 4 else 0
        check_clip(clip, self.bodies, self.layout, self.num_classes)
        if clip.name in self.names:
            raise DataError(f"clip {clip.name!r} stands twice in data set {self.dataset!r}: clip names must be unique")
        self.names[clip.name] = None
        for column, values in self._columns.items():
            values.append(getattr(clip, column))
        self._held.append(clip.coords)
        self._held_frames += len(clip.coords)
        if self._held_frames >= BLOCK_FRAMES:
            self._flush()

    def add_all(self, clips: Iterable[Clip], report: Report, on_clip: Callable[[Clip], None]) -> None:
        """Take clips; ``report`` gets what is wrong with one, ``on_clip`` those that were taken."""
        for clip in clips:
            try:
                self.add(clip)
            except DataError as problem:
                report(problem)
            else:
                on_clip(clip)

    def finish(self) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.int64]]]:
        """Hand on the last block; return the offsets (N + 1) and the columns (N) of the clips.

        Raises:
            DataError: there was no clip.
        """
        if not self.names:
            raise DataError(f"data set {self.dataset!r} has no clips")
        self._flush()
        offsets = np.concatenate([[0], np.cumsum(self._lengths, dtype=np.int64)])
        return offsets, {column: np.array(values, dtype=np.int64) for column, values in self._columns.items()}

    def _flush(self) -> None:
        if not self._held:
            return
        offsets = np.concatenate([[0], np.cumsum([len(coords) for coords in self._held])])
        packed = np.concatenate(self._held).astype(np.float32, copy=False)
        frames, offsets = apply_steps(packed, offsets, self.layout, self.steps)
        self._sink(np.ascontiguousarray(frames))
        self._lengths += np.diff(offsets).tolist()
        self._held.clear()
        self._held_frames = 0


def check_clip(clip: Clip, bodies: int, layout: Layout, num_classes: int) -> None:
    """Raise DataError, naming clip, place and value, where a clip cannot enter a store."""
    shape = clip.coords.shape
    if len(shape) != 4 or shape[0] < 1 or shape[1:] != (bodies, layout.num_joints, 3):
        raise DataError(
            f"clip {clip.name!r} has shape {shape}, expected (frames, {max(bodies, 1)}, {layout.num_joints}, 3) "
            f"with at least one frame for layout {layout.name!r}"
        )
    found = not_finite(clip.coords, layout)
    if found is not None:
        raise DataError(f"clip {clip.name!r} has a value that is not finite at {found}: repair or leave out that clip")
    if not UNKNOWN <= clip.label < max(num_classes, 0):
        raise DataError(f"clip {clip.name!r} has label {clip.label}, but there are {num_classes} class names")
