"""What checkpoints cost: milliseconds and bytes of writing one, and milliseconds of going on from it.

    python bench/checkpoints.py [--data demo,ucla] [--rounds 20] [--epochs 3] [--device auto]
        [--json FILE] [--markdown FILE]

A short run of recipe `paper` leaves a checkpoint in every stage and says how long an epoch takes. Each stage is then
set up from its checkpoint and saved again, as a run does it, hashes and the wait for the disk (fsync) included. The run
lies in the system's folder for temporary files: name another disk with TMPDIR. Run it on an idle machine.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console, Group
from rich.text import Text

from crrl_fast.benchmark.ops import device_name
from crrl_fast.benchmark.record import Record, Spread
from crrl_fast.benchmark.text import byte_size, circumstances, with_spread
from crrl_fast.benchmark.train import ours
from crrl_fast.benchmark.train.clock import timed
from crrl_fast.benchmark.train.render import Section, Sheet, sheet_lines, sheet_table
from crrl_fast.cli.common import names_in, print_wide
from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips, resident_split
from crrl_fast.data.catalog import open_data
from crrl_fast.device import resolve_device
from crrl_fast.files import write_json, write_text
from crrl_fast.recipes import get_recipe
from crrl_fast.run import METRICS_FILE, RunFolder
from crrl_fast.seeding import seed_everything
from crrl_fast.training.checkpoint import FOLDER, Checkpoint, checkpoints_in, read_checkpoint
from crrl_fast.training.keeper import CheckpointKeeper, CheckpointPolicy
from crrl_fast.training.loop import StageLoop
from crrl_fast.training.pretrain import pretrain
from crrl_fast.training.request import PretrainRequest
from crrl_fast.versions import software_versions

STAGES = ("ser", "cml", "inf")

REMARKS = (
    "median of the rounds, and in brackets p10 to p90",
    "writing: from the trained stage to files that are on the disk (fsync), hashes included",
    "of an epoch: one checkpoint over the median epoch of the same run; by default there is one in 5 epochs",
    "going on: verifying and reading the files, just written and so in memory, and loading them into the stage",
)


@dataclass(frozen=True)
class StageCost:
    """Checkpoints of one stage.

    Attributes:
        stage: its name.
        bytes: of a checkpoint's files.
        write_seconds: to write one.
        resume_seconds: to verify, read and load one.
        epoch_seconds: of the median epoch; the first is left out.
    """

    stage: str
    bytes: int
    write_seconds: Spread
    resume_seconds: Spread
    epoch_seconds: float


@dataclass(frozen=True)
class DataCosts:
    """A data set and what its checkpoints cost."""

    data: str
    clips: int
    stages: tuple[StageCost, ...]


@dataclass(frozen=True)
class CheckpointsRecord(Record):
    """A whole run."""

    rounds: int
    recipe: dict[str, Any]
    data: tuple[DataCosts, ...]


def main(
    data: Annotated[str, typer.Option(help="Names or paths of stores, comma-separated.")] = "demo,ucla",
    rounds: Annotated[int, typer.Option(min=1)] = 20,
    epochs: Annotated[int, typer.Option(help="Of each stage, to know how long they take.", min=2)] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown")] = None,
) -> None:
    """Measure, print and record."""
    record = measure(names_in(data), get_recipe("paper"), rounds, epochs, resolve_device(device))
    print_wide(Group(Text(headline(record)), sheet_table(sheet(record)), *map(Text, REMARKS)))
    if json_file:
        write_json(json_file, asdict(record))
    if markdown_file:
        write_text(markdown_file, markdown(record))


def measure(names: Sequence[str], recipe: Recipe, rounds: int, epochs: int, device: torch.device) -> CheckpointsRecord:
    """Train a little on each data set, then time its checkpoints."""
    return CheckpointsRecord(
        benchmark="checkpoints",
        device=device.type,
        device_name=device_name(device),
        threads=torch.get_num_threads(),
        versions=software_versions(),
        rounds=rounds,
        recipe=asdict(recipe),
        data=tuple(
            _measure(name, recipe.with_overrides({"epochs": epochs, "steps": 0}), rounds, device) for name in names
        ),
    )


def _measure(name: str, recipe: Recipe, rounds: int, device: torch.device) -> DataCosts:
    with tempfile.TemporaryDirectory() as folder:
        request = PretrainRequest.resolve(
            name,
            recipe=recipe,
            stages=STAGES,
            out=Path(folder, "run"),
            device=device.type,
            checkpoint_every=0,  # at the end of each stage alone
            checkpoint_minutes=0,
            keep=len(STAGES),
        )
        run = pretrain(request, Console(quiet=True))
        clips, _ = resident_split(open_data(name)[0].processed(recipe.preprocessing()), None, device)
        found = {checkpoint.stage: checkpoint for checkpoint in map(read_checkpoint, checkpoints_in(run.path))}
        costs = [_cost(run, found[stage], clips, rounds, Path(folder, stage)) for stage in STAGES]
    return DataCosts(run.config.dataset, len(clips), tuple(costs))


def _cost(run: RunFolder, checkpoint: Checkpoint, clips: ResidentClips, rounds: int, folder: Path) -> StageCost:
    recipe, stage = run.config.recipe, checkpoint.stage
    generator = seed_everything(run.config.seed, stage)
    features = torch.randn(len(clips), 2 * recipe.hidden_size).to(clips.device) if stage == "inf" else None
    module = ours.stage_module(stage, clips.width, recipe, features).to(clips.device)
    loop = StageLoop(stage, module, clips, recipe, generator)
    loop.load_state(checkpoint.state)
    keeper = CheckpointKeeper(folder, CheckpointPolicy())

    def write() -> Path:
        return keeper.save(
            Checkpoint(stage, loop.state(), run.config.record(), checkpoint.finished, checkpoint.metrics)
        )

    write_seconds, resume_seconds = [], []
    for _ in range(rounds):
        path, seconds = timed(write, clips.device)
        write_seconds.append(seconds)
        resume_seconds.append(timed(partial(_resume, path, loop), clips.device)[1])
    epochs = [json.loads(line) for line in (run.path / METRICS_FILE).read_text().splitlines()]
    return StageCost(
        stage=stage,
        bytes=sum(file.stat().st_size for file in (folder / FOLDER).glob(f"{path.stem}.*")),
        write_seconds=Spread.of(write_seconds),
        resume_seconds=Spread.of(resume_seconds),
        epoch_seconds=statistics.median(row["seconds"] for row in epochs if row["stage"] == stage and row["epoch"] > 1),
    )


def _resume(path: Path, loop: StageLoop) -> None:
    loop.load_state(read_checkpoint(path).state)


def sheet(record: CheckpointsRecord) -> Sheet:
    """Return the table."""
    columns = ("stage", "size", "writing, ms", "of an epoch", "going on, ms")
    sections = (
        Section(
            f"{data.data}, {data.clips} clips",
            tuple(
                (
                    cost.stage,
                    byte_size(cost.bytes),
                    with_spread(cost.write_seconds, 1e3),
                    f"{cost.write_seconds.median / cost.epoch_seconds:.1%} of {cost.epoch_seconds:.2f} s",
                    with_spread(cost.resume_seconds, 1e3),
                )
                for cost in data.stages
            ),
        )
        for data in record.data
    )
    return Sheet(columns, tuple(sections))


def headline(record: CheckpointsRecord) -> str:
    """Where and how the record was taken, in a line."""
    return circumstances(record, f"{record.rounds} rounds")


def markdown(record: CheckpointsRecord) -> str:
    """Return the record as Markdown."""
    remarks = [f"- {remark}" for remark in REMARKS]
    return "\n".join([headline(record), "", *sheet_lines(sheet(record)), "", *remarks]) + "\n"


if __name__ == "__main__":
    typer.run(main)
