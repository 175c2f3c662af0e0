"""What ``crrl-fast bench train`` found, and under which circumstances; JSON through ``dataclasses.asdict``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crrl_fast.benchmark.record import Record, Spread

STOCK, OURS, OURS_BF16 = "stock float32", "ours float32", "ours bf16"
"""The contenders, in the order in which records list them."""


@dataclass(frozen=True)
class Performance:
    """One contender in one stage, over the rounds.

    Attributes:
        name: of the contender.
        clips_per_second: of training steps.
        ratio: clips per second over those of stock, round by round: above 1, faster than stock.
        gemm_share: useful operations per second over those of a large ``torch.mm`` of the dtype of its products, timed
            in the same round.
        step_bytes: peak memory of a step above what was allocated before it.
    """

    name: str
    clips_per_second: Spread
    ratio: Spread
    gemm_share: Spread
    step_bytes: int


@dataclass(frozen=True)
class StageRecord:
    """All contenders in one stage; ``gflop_per_clip`` is the useful work of its steps, the same for all."""

    stage: str
    gflop_per_clip: float
    contenders: tuple[Performance, ...]


@dataclass(frozen=True)
class Preparation:
    """What a contender needs before its first step.

    Attributes:
        name: of the contender.
        seconds: by what is prepared; measured on the clips that the steps draw, in proportion to all.
        held_bytes: arrays that stay for the whole run, for all training clips.
    """

    name: str
    seconds: dict[str, float]
    held_bytes: int


@dataclass(frozen=True)
class PipelineRecord:
    """One contender through preparation and all epochs of all stages.

    Attributes:
        name: of the contender.
        seconds: of the whole, from each round's clips per second in every stage.
        clips_per_second: clips of all epochs of all stages over those seconds.
        ratio: clips per second over those of stock, round by round.
    """

    name: str
    seconds: Spread
    clips_per_second: Spread
    ratio: Spread


@dataclass(frozen=True)
class DataRecord:
    """One data set.

    Attributes:
        name: as it was asked for.
        clips: training clips.
        drawn_clips: those that the steps drew.
        width: numbers a frame.
        mean_frames: of a training clip.
        longest: frames of the longest training clip.
        store_bytes: of the store's frames.
        stages: in order.
        preparation: of every contender.
        pipeline: of every contender through ``cml`` and ``inf``; empty where not both were measured.
    """

    name: str
    clips: int
    drawn_clips: int
    width: int
    mean_frames: float
    longest: int
    store_bytes: int
    stages: tuple[StageRecord, ...]
    preparation: tuple[Preparation, ...]
    pipeline: tuple[PipelineRecord, ...]


@dataclass(frozen=True)
class CurveRecord:
    """The losses of stock and ours, step by step, from the same weights and batches, without dropout, in float32.

    Attributes:
        stage: ``ser``, ``cml`` or ``inf``.
        data: name of the data set.
        stock: loss of every step.
        ours: loss of every step.
        rounding: stock's loss again, where inputs and initial weights differ in their last bit.
        tolerance: what ``ours`` may differ from ``stock``, relative to it.
    """

    stage: str
    data: str
    stock: tuple[float, ...]
    ours: tuple[float, ...]
    rounding: tuple[float, ...]
    tolerance: tuple[float, ...]

    @property
    def difference(self) -> tuple[float, ...]:
        """What ``ours`` differs from ``stock``, relative to it."""
        return tuple(abs(a - b) / abs(b) for a, b in zip(self.ours, self.stock, strict=True))

    @property
    def first_disagreement(self) -> int | None:
        """The first step, from 1, whose difference exceeds its tolerance or is no number; None where all agree."""
        compared = zip(self.difference, self.tolerance, strict=True)
        return next((step for step, (found, limit) in enumerate(compared, 1) if not found <= limit), None)


@dataclass(frozen=True)
class GrowthRecord:
    """Ours in float32 on a generated store of so many clips.

    Attributes:
        clips: training clips.
        store_bytes: of the store's frames.
        clips_per_second: through one step of every stage in turn.
        relative: those over the smallest store's, round by round.
        shuffle_seconds: to draw an epoch's order.
        other_bytes: the process's memory (on CUDA the device's) that the store of this size added beyond its frames.
    """

    clips: int
    store_bytes: int
    clips_per_second: Spread
    relative: Spread
    shuffle_seconds: float
    other_bytes: int


@dataclass(frozen=True)
class StepsRecord(Record):
    """What records of training steps begin with.

    Attributes:
        rounds: timed rounds of each stage.
        steps: steps in a round.
        seed: of weights, batches and generated clips.
        recipe: the recipe's fields.
    """

    rounds: int
    steps: int
    seed: int
    recipe: dict[str, Any]


@dataclass(frozen=True)
class TrainRecord(StepsRecord):
    """A whole run; the steps of a round are those of each contender.

    Attributes:
        gemm_flops: by ``float32`` and ``bfloat16``, operations per second of a large ``torch.mm``.
        curves: of every stage, on the first data set.
        data: of every data set; empty where a curve disagrees.
        growth: by size; empty where it was not asked for.
    """

    gemm_flops: dict[str, Spread]
    curves: tuple[CurveRecord, ...]
    data: tuple[DataRecord, ...]
    growth: tuple[GrowthRecord, ...]

    @property
    def disagreements(self) -> tuple[CurveRecord, ...]:
        """The curves of ours that do not follow stock's."""
        return tuple(curve for curve in self.curves if curve.first_disagreement is not None)
