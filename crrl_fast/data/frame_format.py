"""What the numbers of a frame are: the joint layout, the bodies, and what was done to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crrl_fast.data.info import StoreInfo, check_bodies
from crrl_fast.data.layouts import Layout, layout_from_record, layout_record
from crrl_fast.data.preprocess import steps_from_record


@dataclass(frozen=True)
class FrameFormat:
    """The format of a frame.

    Attributes:
        layout: the joint layout, of V joints.
        bodies: bodies M.
        preprocessing: the steps that were applied, in order, as ``preprocess.describe_steps`` puts them.
    """

    layout: Layout
    bodies: int
    preprocessing: tuple[dict[str, Any], ...]

    def __post_init__(self) -> None:
        """Check the bodies and the steps.

        Raises:
            DataError: there are too few or too many, or a step is not known to this version.
        """
        check_bodies(self.bodies)
        steps_from_record(self.preprocessing)

    @property
    def width(self) -> int:
        """Numbers D = M * V * 3 a frame."""
        return self.bodies * self.layout.num_joints * 3

    def parents(self) -> list[int]:
        """Return for each of a frame's D numbers that of its joint's parent in the same body; a root is its own."""
        parent = list(range(self.layout.num_joints))
        for child, above in self.layout.bones:
            parent[child] = above
        joints = [body * len(parent) + above for body in range(self.bodies) for above in parent]
        return [3 * joint + axis for joint in joints for axis in range(3)]

    @classmethod
    def of(cls, info: StoreInfo) -> FrameFormat:
        """Return the format of a store's frames."""
        return cls(info.layout, info.bodies, info.preprocessing)

    def record(self) -> dict[str, Any]:
        """Return the JSON form that ``from_record`` reads back."""
        return {
            "layout": layout_record(self.layout),
            "bodies": self.bodies,
            "preprocessing": list(self.preprocessing),
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> FrameFormat:
        """Read what ``record`` returned.

        Raises:
            DataError: it has a layout that is not known.
            KeyError: a part is missing; so too TypeError and ValueError where a part is malformed.
        """
        return cls(layout_from_record(record["layout"]), record["bodies"], tuple(record["preprocessing"]))
