"""What still has to be done to a store before the encoder of a run may see it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest

import torch.nn.functional as F

from crrl_fast.data.frame_format import FrameFormat
from crrl_fast.data.layouts import Layout
from crrl_fast.data.preprocess import (
    Downsample,
    Resample,
    Rotate,
    Step,
    Turn,
    effective_steps,
    steps_from_record,
    write_steps,
)
from crrl_fast.data.store import Store
from crrl_fast.errors import DataError


def fit_store(store: Store, frames: FrameFormat, steps: Sequence[Step]) -> Store:
    """Return a store as the encoder of a run saw its own: absent bodies added, and the steps that are missing applied.

    Args:
        store: with other clips, of the same layout.
        frames: the format of the frames that the run was trained on, before the recipe's own steps.
        steps: all that was done to the raw clips, in order, the recipe's own included.

    Raises:
        DataError: the store has another layout or more bodies, or was preprocessed in another way.
    """
    check_layout(store.info.dataset, store.layout, frames.layout)
    if store.info.bodies > frames.bodies:
        raise DataError(
            f"data set {store.info.dataset!r} has {store.info.bodies} bodies a frame, but the run was trained on "
            f"{frames.bodies}: keep at most that many of each clip"
        )
    missing = missing_steps(store, steps, steps_from_record(frames.preprocessing))
    extra = frames.width - store.frames.shape[1]
    if extra:
        store = replace(store, frames=F.pad(store.frames, (0, extra)), info=replace(store.info, bodies=frames.bodies))
    return store.processed(missing)


def all_steps(frames: FrameFormat, own: Sequence[Step]) -> tuple[Step, ...]:
    """Return all that is done to raw clips before an encoder sees them, in order.

    Args:
        frames: the format of the frames that its run was trained on.
        own: the recipe's own steps, which come after; those that would change nothing are left out.
    """
    return effective_steps((*steps_from_record(frames.preprocessing), *own), math.inf)


def check_layout(dataset: str, theirs: Layout, ours: Layout) -> None:
    """Refuse a data set of another joint layout than that which a run was trained on.

    Raises:
        DataError: the layouts differ.
    """
    if theirs != ours:
        found = f"{theirs.name!r}" if theirs.name != ours.name else f"another version of {theirs.name!r}"
        raise DataError(
            f"data set {dataset!r} has joint layout {found} ({theirs.num_joints} joints), but the run was trained on "
            f"{ours.name!r} ({ours.num_joints} joints): embed it with a run that was trained on its layout"
        )


def missing_steps(store: Store, steps: Sequence[Step], prepared: Sequence[Step]) -> tuple[Step, ...]:
    """Return which of ``steps`` a store still lacks: all if it is raw, none if all are recorded in it.

    Down-sampling that no clip is long enough for counts for nothing, whether recorded or not; and whether clips were
    turned before they were cut or afterwards is the same.

    Args:
        store: what was done to it is in ``store.info.preprocessing``.
        steps: all that was done to the clips that the encoder was trained on, in order.
        prepared: those of them that `crrl-fast prepare` did, for the message.

    Raises:
        DataError: what was done to the store is not how ``steps`` may begin.
    """
    recorded = steps_from_record(store.info.preprocessing)
    longest = _longest_raw(store, recorded)
    done, wanted = effective_steps(recorded, longest), effective_steps(steps, longest)
    target = _standard_order(wanted)
    orders = (wanted, target, _aligned_after_cuts(target))
    for missing in sorted((order[start:] for order in orders for start in range(len(order) + 1)), key=len):
        if _standard_order(effective_steps((*done, *missing), longest)) == target:
            return missing
    raise DataError(
        f"data set {store.info.dataset!r} was preprocessed with {write_steps(recorded)}, but what the encoder was "
        f"trained on with {write_steps(steps)}: prepare it with --preprocess {write_steps(prepared)}"
    )


def _standard_order(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the order that stands for all that give the same clips: ``rotate`` and ``turn`` before a change of length.

    Both go by the first frame, which a change of length keeps, and turn all frames alike. Whatever is rotated right
    after it was turned might not have been turned.
    """
    ordered = _aligned_before_cuts(steps)
    return tuple(
        step
        for step, then in zip_longest(ordered, ordered[1:])
        if not (isinstance(step, Rotate | Turn) and isinstance(then, Rotate))
    )


def _aligned_before_cuts(steps: Iterable[Step]) -> list[Step]:
    ordered: list[Step] = []
    for step in steps:
        at = len(ordered)
        while isinstance(step, Rotate | Turn) and at and isinstance(ordered[at - 1], Downsample | Resample):
            at -= 1
        ordered.insert(at, step)
    return ordered


def _aligned_after_cuts(steps: Sequence[Step]) -> tuple[Step, ...]:
    return tuple(reversed(_aligned_before_cuts(reversed(steps))))


def _longest_raw(store: Store, recorded: Sequence[Step]) -> float:
    """Return how many frames the longest clip had before any step; infinity where it may have had more than now."""
    longest = int(store.lengths.max()) if len(store) else 0
    may_be_cut = any(
        isinstance(step, Resample) or (isinstance(step, Downsample) and longest >= step.max_frames) for step in recorded
    )
    return math.inf if may_be_cut else longest
