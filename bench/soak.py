"""A long pretraining run, as a user starts it: does its memory grow, does it leave files open, does it slow down?

    python bench/soak.py [--epochs 500] [--data demo] [--set field=value ...] [--device auto] [--out RUN]
        [--json FILE] [--markdown FILE] [--plot FILE.png]

`crrl-fast pretrain` runs in one process, through the stages of the default fusion, with probes, checkpoints and log.
The limits: less than 1 percent of growth of memory after each stage's warm-up, no growth of open files and threads, and
less than 5 percent of drift in clips per second. The exit code is 1 where one is broken, or cannot be told from the
machine's noise; the records are written all the same. Run it on an idle machine, with Linux.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import soak_worker
import torch
import typer
from rich.console import Group
from rich.text import Text
from soak_plot import plot
from soak_record import SoakRecord, headline, judge_across, judge_stage, markdown, sheet, stages_of, summary
from soak_verdicts import KEPT, warm_up
from soak_worker import Sample

from crrl_fast.benchmark.ops import device_name
from crrl_fast.benchmark.plot import require_matplotlib
from crrl_fast.benchmark.train.render import sheet_table
from crrl_fast.cli.common import print_wide
from crrl_fast.device import resolve_device
from crrl_fast.errors import CrrlError
from crrl_fast.files import write_json, write_text
from crrl_fast.fusion import DEFAULT_FUSION, get_fusion
from crrl_fast.run import RunFolder

STAGES = get_fusion(DEFAULT_FUSION).stages
PROBE_EVERY = 10
"""Epochs, as `crrl-fast pretrain` does; fewer in a short run."""

LEAST_BLOCKS = 8
"""Of a stage, between probes: two to warm up, and some to compare."""


def main(
    epochs: Annotated[int, typer.Option(help="Of all stages together.", min=LEAST_BLOCKS * len(STAGES))] = 500,
    data: Annotated[str, typer.Option(help="A data set name or the path of a store.")] = "demo",
    assignments: Annotated[list[str] | None, typer.Option("--set", help="field=value of recipe paper.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="The run folder; default: a temporary one.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot")] = None,
) -> None:
    """Train, judge, and write the record."""
    if plot_file:
        require_matplotlib()
    with tempfile.TemporaryDirectory() as temporary:
        run = out or Path(temporary, "run")
        each = -(-epochs // len(STAGES))
        try:
            record = soak(run, data, each, assignments or [], resolve_device(device))
        except CrrlError as error:
            typer.echo(f"soak: {error}", err=True)
            raise typer.Exit(2) from error
    print_wide(Group(Text(headline(record)), sheet_table(sheet(record)), Text(summary(record.verdicts))))
    if json_file:
        write_json(json_file, asdict(record))
    if markdown_file:
        write_text(markdown_file, markdown(record))
    if plot_file:
        plot(record, plot_file)
    raise typer.Exit(0 if all(verdict.state == KEPT for verdict in record.verdicts) else 1)


def soak(run: Path, data: str, epochs: int, assignments: Sequence[str], device: torch.device) -> SoakRecord:
    """Train each stage for so many epochs in a process of its own, and judge what it held.

    Raises:
        CrrlError: the process failed; what it said is on stderr.
    """
    probe_every = min(PROBE_EVERY, epochs // LEAST_BLOCKS)
    # Within each block there are the same number of them.
    checkpoint_every = probe_every // 2 if probe_every % 2 == 0 else probe_every
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "samples.jsonl")
        command = [sys.executable, soak_worker.__file__, str(path), device.type, "pretrain", "--data", data]
        command += ["--out", str(run), "--device", device.type, "--set", f"epochs={epochs}"]
        command += ["--probe-every", str(probe_every), "--checkpoint-every", str(checkpoint_every)]
        command += [word for assignment in assignments for word in ("--set", assignment)]
        code = subprocess.run(command, check=False).returncode
        if code != 0:
            raise CrrlError(f"the run ended with exit code {code}: nothing is judged")
        samples = [Sample(**json.loads(line)) for line in path.read_text().splitlines()]
    return judge(RunFolder.open(run), samples, probe_every, device)


def judge(run: RunFolder, samples: Sequence[Sample], block: int, device: torch.device) -> SoakRecord:
    """Return the record of a run with a probe every ``block`` epochs."""
    config = run.config
    settled_after = warm_up(config.epochs, block)
    stages = tuple(judge_stage(name, part, settled_after, block) for name, part in stages_of(samples).items())
    on_gpu = ("cuda_allocated", "cuda_reserved") if device.type == "cuda" else ()
    exact = ("stage", "epoch", "rss", "pss", "uss", "peak", "descriptors", "threads", *on_gpu)
    values = {name: [getattr(sample, name) for sample in samples] for name in exact}
    began = samples[0].ended
    return SoakRecord(
        benchmark="soak",
        device=config.device,
        device_name=device_name(device),
        threads=config.threads,
        versions=dict(config.versions),
        data=config.dataset,
        clips=samples[0].clips,
        recipe=asdict(config.recipe),
        epochs=config.epochs,
        warm_up=settled_after,
        block=block,
        seconds=samples[-1].ended - samples[0].ended,
        stages=stages,
        across=judge_across(stages),
        samples={
            **values,
            "ended": [round(sample.ended - began, 2) for sample in samples],
            "clips_per_second": [round(sample.clips_per_second, 1) for sample in samples],
            "gemm_flops": [round(sample.gemm_flops, -7) for sample in samples],
        },
    )


if __name__ == "__main__":
    typer.run(main)
