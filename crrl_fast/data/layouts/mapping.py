"""Poses of one joint layout as poses of another, through the joints that both have."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crrl_fast.data.layouts.anatomy import SHOULDERS, is_known, joints_of_points, points_of_joints, sides
from crrl_fast.data.layouts.layout import Layout
from crrl_fast.errors import DataError

Weights = dict[int, float]
"""Joints of the source and the share that each has in a joint of the target."""


@dataclass(frozen=True)
class JointMapping:
    """How the joints of a target layout are made of those of a source layout; ``map_joints`` makes it.

    Attributes:
        source: the layout of the poses that there are.
        target: the layout that they are wanted in.
        shared: joints of the target that the source has too, and what they are made of.
        filled: joints of the target that the source lacks, likewise.
    """

    source: Layout
    target: Layout
    shared: dict[int, Weights]
    filled: dict[int, Weights]

    def __call__(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return frames (F, M, V, 3) of the source as (F, M, W, 3) of the target; a shared joint keeps its numbers."""
        mapped = np.empty((*frames.shape[:2], self.target.num_joints, 3), np.float32)
        for joint, weights in {**self.shared, **self.filled}.items():
            (first, share), *others = weights.items()
            mapped[:, :, joint] = share * frames[:, :, first]
            for other, share in others:
                mapped[:, :, joint] += share * frames[:, :, other]
        return mapped

    def record(self) -> dict[str, Any]:
        """Return the JSON form: for each joint of the target the names of the joints it is made of."""

        def named(joints: dict[int, Weights]) -> dict[str, list[str]]:
            return {
                self.target.joints[joint]: [self.source.joints[part] for part in weights]
                for joint, weights in joints.items()
            }

        return {
            "from": self.source.name,
            "to": self.target.name,
            "shared": named(self.shared),
            "filled": named(self.filled),
        }


def map_joints(source: Layout, target: Layout) -> JointMapping:
    """Find the joints of ``target`` in ``source``.

    Known layouts share the points of a body that ``anatomy`` names; the hip centre and the top of the spine may be the
    mean of both hips or shoulders. A layout of the user's own shares joints by their names first. A joint that the
    source lacks is filled from the nearest joint along the bones of the target that the source has, or from the mean of
    several that are equally near, but never from the other side of the body.

    Raises:
        DataError: the source lacks the shoulders, or half of the joints of a target that has none of that name; or
            what is left in one layout is right in the other.
    """
    shared = _shared(source, target)
    names = target.joints
    points = points_of_joints(target)
    lacking = [names[joint] for joint, point in enumerate(points) if point in SHOULDERS and joint not in shared]
    if lacking or (not set(SHOULDERS) & set(points) and 2 * len(shared) < len(names)):
        missing = ", ".join(lacking or [name for joint, name in enumerate(names) if joint not in shared])
        raise DataError(
            f"joint layouts {source.name} and {target.name} share too few joints: {source.name} has nothing for "
            f"{missing} of {target.name}"
        )
    _refuse_swapped_sides(source, target, shared)
    reachable = {joint: _nearest(target, joint, shared.keys()) for joint in range(len(names)) if joint not in shared}
    return JointMapping(
        source,
        target,
        shared,
        {joint: _mean([shared[near] for near in nearest]) for joint, nearest in reachable.items()},
    )


def _shared(source: Layout, target: Layout) -> dict[int, Weights]:
    by_name = not (is_known(source) and is_known(target))
    available = joints_of_points(source)
    shared = {}
    for joint, (name, point) in enumerate(zip(target.joints, points_of_joints(target), strict=True)):
        if by_name and name in source.joints:
            shared[joint] = {source.joints.index(name): 1.0}
        elif point in available:
            shared[joint] = _mean([{part: 1.0} for part in available[point]])
    return shared


def _refuse_swapped_sides(source: Layout, target: Layout, shared: dict[int, Weights]) -> None:
    there, here = sides(source), sides(target)
    for joint, weights in shared.items():
        for part in weights:
            if {there.get(part), here.get(joint)} == {"left", "right"}:
                raise DataError(
                    f"joint {target.joints[joint]!r} of layout {target.name} is {here[joint]}, but "
                    f"{source.joints[part]!r} of {source.name} is {there[part]}: correct `mirror` or `hips` of the one "
                    "that is wrong"
                )


def _nearest(layout: Layout, joint: int, candidates: Set[int]) -> list[int]:
    """Return those of ``candidates`` that are fewest bones from ``joint``, none of the other side.

    Where no bone leads to one, they are both hips, whose mean is the hip centre.
    """
    neighbours: dict[int, set[int]] = {other: set() for other in range(layout.num_joints)}
    for child, parent in layout.bones:
        neighbours[child].add(parent)
        neighbours[parent].add(child)
    side = sides(layout)
    seen = ring = {joint}
    while ring:
        found = [near for near in sorted(ring & candidates) if {side.get(near), side.get(joint)} != {"left", "right"}]
        if found:
            return found
        ring = {other for near in ring for other in neighbours[near]} - seen
        seen = seen | ring
    return list(layout.hips)


def _mean(parts: list[Weights]) -> Weights:
    mean: Weights = {}
    for weights in parts:
        for joint, share in weights.items():
            mean[joint] = mean.get(joint, 0.0) + share / len(parts)
    return mean
