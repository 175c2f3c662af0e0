"""Skeleton layouts: joint names in file order, bones, mirror pairs and the joints that orient a body."""

from __future__ import annotations

from pathlib import Path

from crrl_fast.data.layouts.description import read_layout
from crrl_fast.data.layouts.known import CMU31, COCO17, KINECT20, LAYOUTS, MEDIAPIPE33, NTU25, OPENPOSE18, get_layout
from crrl_fast.data.layouts.layout import Layout
from crrl_fast.data.layouts.mapping import JointMapping, map_joints
from crrl_fast.data.layouts.record import layout_from_record, layout_record

__all__ = [
    "CMU31",
    "COCO17",
    "KINECT20",
    "LAYOUTS",
    "MEDIAPIPE33",
    "NTU25",
    "OPENPOSE18",
    "JointMapping",
    "Layout",
    "get_layout",
    "layout_from_record",
    "layout_record",
    "map_joints",
    "read_layout",
    "resolve_layout",
]


def resolve_layout(name_or_file: str) -> Layout:
    """Return a known layout by its name, or read a layout of the user's own from a ``.toml`` file.

    Raises:
        DataError: no layout has that name, or the file is not a layout's description.
    """
    if name_or_file.endswith(".toml"):
        return read_layout(Path(name_or_file))
    return get_layout(name_or_file)
