"""Skeleton layouts: joint names in file order, bones, mirror pairs and the joints that orient a body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from crrl_fast.errors import DataError

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


def _layout(
    name: str, parents: dict[str, str | None], *, mirror: tuple[tuple[str, str], ...], center: str, spine_top: str
) -> Layout:
    """Build a layout from ``joint: parent`` names in file order; mirror names come as (left, right)."""
    joints = tuple(parents)
    index = {joint: i for i, joint in enumerate(joints)}
    return Layout(
        name=name,
        joints=joints,
        bones=tuple((index[joint], index[parent]) for joint, parent in parents.items() if parent is not None),
        mirror=tuple((index[left], index[right]) for left, right in mirror),
        center=(index[center],),
        spine_top=(index[spine_top],),
        hips=(index["hip_left"], index["hip_right"]),
    )


_SIDES = ("shoulder", "elbow", "wrist", "hand", "hip", "knee", "ankle", "foot")
_MIRROR = tuple((f"{part}_left", f"{part}_right") for part in _SIDES)

# Kinect v2, the joint order of NTU RGB+D and PKU-MMD.
NTU25 = _layout(
    "ntu25",
    {
        "spine_base": None,
        "spine_mid": "spine_base",
        "neck": "spine_shoulder",
        "head": "neck",
        "shoulder_left": "spine_shoulder",
        "elbow_left": "shoulder_left",
        "wrist_left": "elbow_left",
        "hand_left": "wrist_left",
        "shoulder_right": "spine_shoulder",
        "elbow_right": "shoulder_right",
        "wrist_right": "elbow_right",
        "hand_right": "wrist_right",
        "hip_left": "spine_base",
        "knee_left": "hip_left",
        "ankle_left": "knee_left",
        "foot_left": "ankle_left",
        "hip_right": "spine_base",
        "knee_right": "hip_right",
        "ankle_right": "knee_right",
        "foot_right": "ankle_right",
        "spine_shoulder": "spine_mid",
        "hand_tip_left": "hand_left",
        "thumb_left": "wrist_left",
        "hand_tip_right": "hand_right",
        "thumb_right": "wrist_right",
    },
    mirror=(*_MIRROR, ("hand_tip_left", "hand_tip_right"), ("thumb_left", "thumb_right")),
    center="spine_base",
    spine_top="spine_shoulder",
)

# Kinect v1, the joint order of NW-UCLA.
KINECT20 = _layout(
    "kinect20",
    {
        "hip_center": None,
        "spine": "hip_center",
        "shoulder_center": "spine",
        "head": "shoulder_center",
        "shoulder_left": "shoulder_center",
        "elbow_left": "shoulder_left",
        "wrist_left": "elbow_left",
        "hand_left": "wrist_left",
        "shoulder_right": "shoulder_center",
        "elbow_right": "shoulder_right",
        "wrist_right": "elbow_right",
        "hand_right": "wrist_right",
        "hip_left": "hip_center",
        "knee_left": "hip_left",
        "ankle_left": "knee_left",
        "foot_left": "ankle_left",
        "hip_right": "hip_center",
        "knee_right": "hip_right",
        "ankle_right": "knee_right",
        "foot_right": "ankle_right",
    },
    mirror=_MIRROR,
    center="hip_center",
    spine_top="shoulder_center",
)

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (NTU25, KINECT20)}


def get_layout(name: str) -> Layout:
    """Return the layout called ``name``.

    Raises:
        DataError: no layout has that name.
    """
    if name not in LAYOUTS:
        raise DataError(f"unknown joint layout {name!r}: choose one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]
