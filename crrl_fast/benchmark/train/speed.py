"""Clips per second of all contenders in one stage, in rounds in which all take turns."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import torch

from crrl_fast.benchmark.memory import peak_extra_bytes
from crrl_fast.benchmark.record import Spread
from crrl_fast.benchmark.train.clock import timed
from crrl_fast.benchmark.train.contenders import Builder, Contender
from crrl_fast.benchmark.train.flops import step_flops
from crrl_fast.benchmark.train.gemm import GemmRate
from crrl_fast.benchmark.train.plan import WARM_UP, Plan
from crrl_fast.benchmark.train.record import STOCK, Performance, StageRecord
from crrl_fast.benchmark.train.workload import Workload


class StageTimes:
    """What was timed, round by round.

    Attributes:
        seconds: by contender, of a step in each round.
        gemm: by dtype, operations per second of a large product in each round.
    """

    def __init__(self, names: Iterable[str], dtypes: Iterable[torch.dtype]) -> None:
        self.seconds: dict[str, list[float]] = {name: [] for name in names}
        self.gemm: dict[torch.dtype, list[float]] = {dtype: [] for dtype in dtypes}


def measure_stage(
    stage: str, load: Workload, builders: Mapping[str, Builder], gemm: Mapping[torch.dtype, GemmRate], plan: Plan
) -> tuple[StageRecord, StageTimes]:
    """Count the memory of a step of each contender, then time all of them in turn, ``plan.batches`` steps each.

    Raises:
        TrainingError: a loss is not finite.
    """
    step_bytes = {name: _peak_of_a_step(build, plan.device) for name, build in builders.items()}
    contenders = [build() for build in builders.values()]
    for contender in contenders:
        contender.run(WARM_UP)
    times = StageTimes(builders, gemm)
    for turn in range(plan.rounds):
        # Each round starts elsewhere, so that nobody always follows the same neighbour's caches and clock speed.
        for place in range(len(contenders)):
            contender = contenders[(turn + place) % len(contenders)]
            _, seconds = timed(partial(contender.run, plan.steps), plan.device)
            times.seconds[contender.name].append(seconds / plan.steps)
        for dtype, rate in gemm.items():
            times.gemm[dtype].append(rate())
    flops = [_mean_flops(stage, load, plan, turn) for turn in range(plan.rounds)]
    batch_size = plan.recipe.batch_size
    return (
        StageRecord(
            stage,
            statistics.mean(flops) / batch_size / 1e9,
            tuple(_performance(each, times, flops, step_bytes[each.name], batch_size) for each in contenders),
        ),
        times,
    )


def _peak_of_a_step(build: Builder, device: torch.device) -> int:
    built: list[Contender] = []

    def warm_up() -> None:
        built.append(build())
        built[0].run(WARM_UP)

    return peak_extra_bytes(lambda: built[0].run(1), device, warm_up)


def _mean_flops(stage: str, load: Workload, plan: Plan, turn: int) -> float:
    """Return the useful work of a step of a round."""
    batches = (load.ragged(batch) for batch in plan.batches_of_round(turn))
    return statistics.mean(step_flops(stage, batch, load.width, plan.recipe) for batch in batches)


def _performance(
    contender: Contender, times: StageTimes, flops: Sequence[float], step_bytes: int, batch_size: int
) -> Performance:
    seconds, stock, roof = times.seconds[contender.name], times.seconds[STOCK], times.gemm[contender.products]
    return Performance(
        contender.name,
        Spread.of([batch_size / taken for taken in seconds]),
        Spread.of([theirs / taken for theirs, taken in zip(stock, seconds, strict=True)]),
        Spread.of([work / taken / rate for work, taken, rate in zip(flops, seconds, roof, strict=True)]),
        step_bytes,
    )
