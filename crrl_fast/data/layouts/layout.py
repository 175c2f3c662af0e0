"""What a joint layout is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from crrl_fast.errors import DataError

MAX_JOINTS = 1024
"""A body with face and hands has 543 in MediaPipe."""

Float = TypeVar("Float", np.float32, np.float64)


@dataclass(frozen=True)
class Layout:
    """A joint layout.

    Attributes:
        name: what stores and the command line call it.
        joints: joint names, in the order of the coordinates.
        bones: (child, parent) joint indices; no joint has two parents.
        mirror: (left, right) joint indices that swap when a body is mirrored.
        center: the hip centre, the origin of a centred clip, as the joints whose mean it is: one, or both hips.
        spine_top: the point between the shoulders, likewise; ``center`` to ``spine_top`` is the torso.
        hips: (left, right) hip joints; their line is the body's x axis.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[int, int], ...]
    mirror: tuple[tuple[int, int], ...]
    center: tuple[int, ...]
    spine_top: tuple[int, ...]
    hips: tuple[int, int]

    def __post_init__(self) -> None:
        """Check that names are names, indices those of joints, and that the bones make no cycle.

        Raises:
            DataError: one of them is not.
        """
        if not _are_names((self.name,)) or not _are_names(self.joints) or len(set(self.joints)) < len(self.joints):
            raise self._error("its joints need names, each its own")
        if not 1 <= len(self.joints) <= MAX_JOINTS:
            raise self._error(f"has {len(self.joints)} joints, expected 1 to {MAX_JOINTS}")
        pairs = (*self.bones, *self.mirror, self.hips)
        indices = (*(joint for pair in pairs for joint in pair), *self.center, *self.spine_top)
        if not self.center or not self.spine_top or not all(len(pair) == 2 for pair in pairs):
            raise self._error("its bones, mirror pairs, centre, spine or hips are incomplete")
        if not all(type(joint) is int and 0 <= joint < len(self.joints) for joint in indices):
            raise self._error(f"names joints by other numbers than 0 to {len(self.joints) - 1}")
        parents = dict(self.bones)
        if len(parents) < len(self.bones):
            raise self._error("a joint has two parents")
        for joint in parents:
            ancestor: int | None = joint
            for _ in range(len(parents) + 1):
                ancestor = parents.get(ancestor) if ancestor is not None else None
            if ancestor is not None:
                raise self._error("its bones make a cycle")

    def _error(self, what: str) -> DataError:
        return DataError(f"joint layout {str(self.name)[:40]!r}: {what}")

    @property
    def num_joints(self) -> int:
        """Number of joints V."""
        return len(self.joints)

    def center_of(self, poses: npt.NDArray[Float]) -> npt.NDArray[Float]:
        """Return the hip centre (..., 3) of poses (..., V, 3)."""
        return np.asarray(poses[..., self.center, :].mean(axis=-2))

    def torso_of(self, poses: npt.NDArray[Float]) -> npt.NDArray[Float]:
        """Return the vector (..., 3) from the hip centre to the top of the spine of poses (..., V, 3)."""
        return np.asarray(poses[..., self.spine_top, :].mean(axis=-2) - self.center_of(poses))


def _are_names(values: Sequence[object]) -> bool:
    return all(isinstance(value, str) and value for value in values)
