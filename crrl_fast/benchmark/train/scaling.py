"""Weak scaling: clips per second of several processes that train together, each on a batch of the same size."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from crrl_fast.benchmark.ops import device_name
from crrl_fast.benchmark.record import Spread
from crrl_fast.benchmark.text import with_spread
from crrl_fast.benchmark.train.plan import Plan
from crrl_fast.benchmark.train.record import StepsRecord
from crrl_fast.benchmark.train.render import Section, Sheet, sheet_lines, sheet_table, steps_taken
from crrl_fast.benchmark.train.workload import default_data, open_store, workload
from crrl_fast.errors import ConfigError, TrainingError
from crrl_fast.versions import software_versions

WORKER = "crrl_fast.benchmark.train.scaling_worker"
THREADS = 1
"""Of torch, in each process."""

HOW = (
    "weak scaling: a step of every stage in turn, each process on a batch of its own; seconds a valid frame times the "
    "mean clip. Every round starts the processes anew; efficiency: clips a second of each process over those of the "
    "first row, round by round"
)


@dataclass(frozen=True)
class ProcessesRecord:
    """What so many processes reach.

    Attributes:
        processes: how many.
        clips_per_second: of all together.
        each: of one of them.
        efficiency: ``each`` over that of the fewest processes, taken round by round.
    """

    processes: int
    clips_per_second: Spread
    each: Spread
    efficiency: Spread


@dataclass(frozen=True)
class ScalingRecord(StepsRecord):
    """A run of ``crrl-fast bench train --processes``; threads are those of each process."""

    data: str
    stages: tuple[str, ...]
    processes: tuple[ProcessesRecord, ...]


def run_scaling_benchmark(
    plan: Plan,
    processes: Sequence[int],
    data: Sequence[str] | None = None,
    on_progress: Callable[[str], None] = lambda line: None,
) -> ScalingRecord:
    """Time our trainer with each number of processes in turn.

    Args:
        plan: device, stages, rounds, steps, seed and recipe, whose batch size is that of each process.
        processes: rising numbers of them.
        data: the first is trained on; None is ``default_data()``.
        on_progress: gets a line for each thing done.

    Raises:
        ConfigError: the numbers do not rise from 1, or the data set has fewer training clips than a batch.
        DataError: the store is missing or damaged.
        TrainingError: the processes failed.
    """
    if not processes or processes[0] < 1 or any(a >= b for a, b in itertools.pairwise(processes)):
        named = ",".join(map(str, processes))
        raise ConfigError(f"--processes {named!r}: give rising numbers of at least 1, as in 1,2")
    name = (default_data() if data is None else data)[0]
    store = open_store(name, plan.recipe, plan.seed)
    largest = plan.recipe.with_overrides({"batch_size": plan.recipe.batch_size * processes[-1]})
    load = workload(name, store, largest, 1, plan.seed)
    mean_frames = float(load.lengths.double().mean())
    rates: dict[int, list[float]] = {count: [] for count in processes}
    for turn in range(plan.rounds):
        # Each round starts elsewhere, so that no number of processes always comes first.
        for place in range(len(processes)):
            count = processes[(turn + place) % len(processes)]
            rates[count].append(1 / (_seconds_per_frame(count, name, plan) * mean_frames))
        on_progress(f"measured round {turn + 1} of {plan.rounds} on {name}")
    fewest = rates[processes[0]]
    return ScalingRecord(
        benchmark="scaling",
        device=plan.device.type,
        device_name=device_name(plan.device),
        threads=THREADS,
        rounds=plan.rounds,
        steps=plan.steps,
        seed=plan.seed,
        versions=software_versions(),
        recipe=asdict(plan.recipe),
        data=name,
        stages=plan.stages,
        processes=tuple(_record(count, found, fewest, processes[0]) for count, found in rates.items()),
    )


def render(record: ScalingRecord) -> RenderableType:
    """Lay the record out for a terminal."""
    return Group(Text(steps_taken(record)), sheet_table(_sheet(record)), Text(HOW))


def markdown(record: ScalingRecord) -> str:
    """Return the record as Markdown."""
    return "\n".join([steps_taken(record), "", *sheet_lines(_sheet(record)), "", f"- {HOW}"]) + "\n"


def _record(count: int, rates: list[float], fewest: list[float], least: int) -> ProcessesRecord:
    each = [rate / count for rate in rates]
    return ProcessesRecord(
        count,
        Spread.of(rates),
        Spread.of(each),
        Spread.of([one / (other / least) for one, other in zip(each, fewest, strict=True)]),
    )


def _sheet(record: ScalingRecord) -> Sheet:
    rows = tuple(
        (
            str(found.processes),
            with_spread(found.clips_per_second),
            with_spread(found.each),
            with_spread(found.efficiency, 100, " %"),
        )
        for found in record.processes
    )
    title = f"{record.data}, {','.join(record.stages)}, {record.recipe['batch_size']} clips a process"
    return Sheet(("processes", "clips a second", "of each process", "efficiency"), (Section(title, rows),))


def _seconds_per_frame(processes: int, name: str, plan: Plan) -> float:
    """Start so many processes, and return the seconds that they need for a valid frame, through all stages."""
    settings = {
        "data": name,
        "stages": plan.stages,
        "steps": plan.steps,
        "seed": plan.seed,
        "device": plan.device.type,
        "recipe": asdict(plan.recipe),
    }
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "found.json")
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        ran = subprocess.run(
            [sys.executable, "-m", *launcher, "-m", WORKER, json.dumps(settings), str(found)],
            env={**os.environ, "OMP_NUM_THREADS": str(THREADS)},
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise TrainingError(f"{processes} processes could not train together: {_reason(ran.stderr)}")
        return float(statistics.mean(json.loads(found.read_text())))


def _reason(text: str) -> str:
    """Return the line that an error ends in, without the launcher's report."""
    lines = [line for line in text.partition("torch/distributed/elastic")[0].splitlines() if line.strip()]
    return lines[-2] if len(lines) > 1 else text[-200:]
