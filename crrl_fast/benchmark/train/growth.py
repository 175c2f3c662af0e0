"""What a larger data set costs a step: nothing, if the trainer is right."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from crrl_fast.benchmark.record import Spread
from crrl_fast.benchmark.train import ours
from crrl_fast.benchmark.train.clock import timed
from crrl_fast.benchmark.train.generated import generated_store
from crrl_fast.benchmark.train.plan import WARM_UP, Plan
from crrl_fast.benchmark.train.record import GrowthRecord
from crrl_fast.benchmark.train.workload import workload
from crrl_fast.seeding import derive_seed, seed_everything

SIZES = (1_000, 10_000, 100_000)
"""Clips."""

NAME = "growth"


def measure_growth(plan: Plan, on_progress: Callable[[str], None]) -> tuple[GrowthRecord, ...]:
    """Time ours in float32 on generated stores of all sizes in turn, and the drawing of an epoch's order apart."""
    sizes = []
    for clips in SIZES:
        sizes.append(_Size(clips, plan))
        on_progress(f"generated {clips:,} clips")
    seconds: list[list[float]] = [[] for _ in sizes]
    for turn in range(plan.rounds):
        for place in range(len(sizes)):
            which = (turn + place) % len(sizes)
            seconds[which].append(sizes[which].seconds_per_clip(turn))
    on_progress(f"measured growth to {SIZES[-1]:,} clips")
    return tuple(
        GrowthRecord(
            len(size.clips),
            size.store_bytes,
            Spread.of([1 / taken for taken in found]),
            Spread.of([smallest / taken for smallest, taken in zip(seconds[0], found, strict=True)]),
            size.shuffle_seconds(),
            size.other_bytes,
        )
        for size, found in zip(sizes, seconds, strict=True)
    )


class _Size:
    """Our trainer, one of each stage, on a generated store of so many clips."""

    def __init__(self, clips: int, plan: Plan) -> None:
        before = _memory(plan.device)
        store = generated_store(NAME, clips, plan.recipe.max_frames, derive_seed(plan.seed, f"{NAME} {clips}"))
        frames = ours.resident_frames(store, plan.device)
        self._plan = plan
        self._load = workload(NAME, store, plan.recipe, plan.batches, plan.seed)
        self._mean_frames = float(self._load.lengths.double().mean())
        self.store_bytes = frames.nbytes
        self.clips = ours.resident_clips(store, self._load.index, frames)
        self._trainings = [self._training(stage) for stage in plan.stages]
        self._run(range(WARM_UP))
        self.other_bytes = _memory(plan.device) - before - self.store_bytes

    def _training(self, stage: str) -> ours.OurTraining:
        recipe = self._plan.recipe
        seed_everything(self._plan.seed, stage)
        # The step only reads the teacher's features, so that any will do.
        features = torch.randn(len(self.clips), 2 * recipe.hidden_size) if stage == "inf" else None
        module = ours.stage_module(stage, self._load.width, recipe, features).to(self._plan.device)
        return ours.OurTraining(module, self.clips, recipe)

    def _run(self, batches: range) -> None:
        for batch in batches:
            for training in self._trainings:
                training.step(self._load.batches[batch])

    def seconds_per_clip(self, turn: int) -> float:
        """Take the steps of a round and return the seconds a clip of mean length, through a step of every stage."""
        batches = self._plan.batches_of_round(turn)
        _, seconds = timed(partial(self._run, batches), self._plan.device)
        # Work goes with frames, which differ from batch to batch by chance.
        return seconds / sum(self._load.ragged(batch).frames for batch in batches) * self._mean_frames

    def shuffle_seconds(self) -> float:
        """Draw the order of an epoch and return the seconds."""
        draw = partial(ours.draw_order, self.clips, self._plan.recipe.batch_size, torch.Generator())
        return timed(draw, self._plan.device)[1]


def _memory(device: torch.device) -> int:
    """Return the bytes that are allocated on a GPU, or the process's resident size, 0 where the system hides it."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    table = Path("/proc/self/statm")
    return int(table.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if table.exists() else 0
