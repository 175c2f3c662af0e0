"""Which bits of a training run depend on what, and what deterministic algorithms cost.

    python bench/determinism.py [--data demo] [--steps 10] [--rounds 5] [--threads 1,2] [--device auto]
        [--json FILE] [--markdown FILE]

Every stage is trained for a few steps, recipe `paper` from the same seed, as often as there are rounds in each setting:
with 1, 2, ... threads, and with and without deterministic algorithms. The settings take turns, each in a process of its
own, as a run is: what a GPU's libraries are asked for at their start is then asked for in time. Run it on an idle
machine.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import statistics
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Group
from rich.text import Text

from crrl_fast.benchmark.ops import device_name
from crrl_fast.benchmark.record import Spread
from crrl_fast.benchmark.text import with_spread
from crrl_fast.benchmark.train import ours
from crrl_fast.benchmark.train.clock import timed
from crrl_fast.benchmark.train.record import StepsRecord
from crrl_fast.benchmark.train.render import Section, Sheet, sheet_lines, sheet_table, steps_taken
from crrl_fast.cli.common import print_wide, whole_numbers_in
from crrl_fast.data.batches import ResidentClips, resident_split
from crrl_fast.data.catalog import open_data
from crrl_fast.determinism import deterministic_algorithms
from crrl_fast.device import resolve_device
from crrl_fast.files import write_json, write_text
from crrl_fast.recipes import get_recipe
from crrl_fast.seeding import seed_everything
from crrl_fast.versions import software_versions

STAGES = ("ser", "cml", "inf")
SEED = 0
RECIPE = get_recipe("paper").with_overrides({"max_frames": 30})

REMARKS = (
    "bits of repetitions: of all weights, over the rounds, each in a process of its own",
    "difference from the first row: the largest of any weight, over the largest of its tensor",
    "ms a step: the median step of each round; over the rounds their median, and in brackets p10 to p90",
    "cost: time with deterministic algorithms over time without, round by round",
)

Weights = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Setting:
    """How a stage is trained."""

    threads: int
    deterministic: bool


@dataclass(frozen=True)
class SettingRecord:
    """A stage in one setting.

    Attributes:
        stage: ``ser``, ``cml`` or ``inf``.
        threads: of torch.
        deterministic: whether deterministic algorithms were asked for.
        same_bits: whether all rounds ended with the same weights, bit by bit.
        difference: the largest difference of a weight from the first setting's, over the largest weight of its tensor.
        seconds: of a step.
        cost: of those, over the seconds without deterministic algorithms with as many threads, round by round.
    """

    stage: str
    threads: int
    deterministic: bool
    same_bits: bool
    difference: float
    seconds: Spread
    cost: Spread


@dataclass(frozen=True)
class DeterminismRecord(StepsRecord):
    """A whole run; ``threads`` are the most of any setting."""

    data: str
    settings: tuple[SettingRecord, ...]


@dataclass(frozen=True)
class Trained:
    """A stage after its steps: SHA-256 of all weights, the weights, and the seconds of its median step."""

    digest: str
    weights: Weights
    seconds: float


def main(
    data: str = "demo",
    steps: Annotated[int, typer.Option(help="Of a stage in a round.", min=1)] = 10,
    rounds: Annotated[int, typer.Option(min=2)] = 5,
    threads: Annotated[str, typer.Option(help="Numbers of threads to compare, on the CPU.")] = "1,2",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown")] = None,
) -> None:
    """Measure, print and record."""
    on = resolve_device(device)
    counts = whole_numbers_in(threads, "--threads") if on.type == "cpu" else (torch.get_num_threads(),)
    record = measure(data, steps, rounds, counts, on)
    print_wide(Group(Text(steps_taken(record)), sheet_table(sheet(record)), *map(Text, REMARKS)))
    if json_file:
        write_json(json_file, asdict(record))
    if markdown_file:
        write_text(markdown_file, markdown(record))


def measure(data: str, steps: int, rounds: int, threads: Sequence[int], device: torch.device) -> DeterminismRecord:
    """Train every stage in every setting, round by round."""
    store, _ = open_data(data)  # made now if need be, and not in each process
    settings = [Setting(count, flag) for count in threads for flag in (False, True)]
    first: dict[tuple[str, Setting], Weights] = {}
    digests, seconds = defaultdict(set), defaultdict(list)
    for _ in range(rounds):
        for setting in settings:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                found = process.submit(train, data, steps, setting, device).result()
            for stage, trained in found.items():
                first.setdefault((stage, setting), trained.weights)
                digests[stage, setting].add(trained.digest)
                seconds[stage, setting].append(trained.seconds)
    return DeterminismRecord(
        benchmark="determinism",
        device=device.type,
        device_name=device_name(device),
        threads=max(threads),
        versions=software_versions(),
        rounds=rounds,
        steps=steps,
        seed=SEED,
        recipe=asdict(RECIPE),
        data=store.info.dataset,
        settings=tuple(
            SettingRecord(
                stage=stage,
                **asdict(setting),
                same_bits=len(digests[stage, setting]) == 1,
                difference=difference(first[stage, setting], first[stage, settings[0]]),
                seconds=Spread.of(seconds[stage, setting]),
                cost=Spread.of(ratios(seconds[stage, setting], seconds[stage, Setting(setting.threads, False)])),
            )
            for stage in STAGES
            for setting in settings
        ),
    )


def ratios(seconds: Sequence[float], others: Sequence[float]) -> list[float]:
    """Return each over the other of the same round."""
    return [one / other for one, other in zip(seconds, others, strict=True)]


def train(data: str, steps: int, setting: Setting, device: torch.device) -> dict[str, Trained]:
    """Train every stage for some steps in this process."""
    torch.set_num_threads(setting.threads)
    with deterministic_algorithms(setting.deterministic):
        store, _ = open_data(data)
        clips, _ = resident_split(store.processed(RECIPE.preprocessing()), None, device)
        return {stage: _train_stage(stage, clips, steps) for stage in STAGES}


def _train_stage(stage: str, clips: ResidentClips, steps: int) -> Trained:
    generator = seed_everything(SEED, stage)
    features = torch.randn(len(clips), 2 * RECIPE.hidden_size).to(clips.device) if stage == "inf" else None
    module = ours.stage_module(stage, clips.width, RECIPE, features).to(clips.device)
    training = ours.OurTraining(module, clips, RECIPE)
    batches = torch.randperm(len(clips), generator=generator).split(RECIPE.batch_size)[:steps]
    seconds = [timed(partial(training.step, position), clips.device)[1] for position in batches]
    weights = {name: value.cpu().numpy() for name, value in module.state_dict().items()}
    digest = hashlib.sha256(b"".join(value.tobytes() for value in weights.values())).hexdigest()
    return Trained(digest, weights, statistics.median(seconds))


def difference(weights: Weights, other: Weights) -> float:
    """Return the largest difference of a weight, over the largest weight of its tensor."""
    return max(
        float(np.abs(value - other[name]).max() / max(np.abs(value).max(), 1e-30))
        for name, value in weights.items()
        if np.issubdtype(value.dtype, np.floating)
    )


def sheet(record: DeterminismRecord) -> Sheet:
    """Return the table."""
    columns = ("threads", "deterministic", "bits of repetitions", "difference from the first row", "ms a step", "cost")
    sections = []
    for stage in STAGES:
        rows = tuple(
            (
                str(found.threads),
                "yes" if found.deterministic else "no",
                "the same" if found.same_bits else "differ",
                f"{found.difference:.1e}" if found.difference else "none",
                with_spread(found.seconds, 1e3),
                with_spread(found.cost, unit="x") if found.deterministic else "",
            )
            for found in record.settings
            if found.stage == stage
        )
        sections.append(Section(f"{record.data}, {stage}", rows))
    return Sheet(columns, tuple(sections))


def markdown(record: DeterminismRecord) -> str:
    """Return the record as Markdown."""
    remarks = [f"- {remark}" for remark in REMARKS]
    return "\n".join([steps_taken(record), "", *sheet_lines(sheet(record)), "", *remarks]) + "\n"


if __name__ == "__main__":
    typer.run(main)
