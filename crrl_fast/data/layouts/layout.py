"""What a joint layout is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

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
