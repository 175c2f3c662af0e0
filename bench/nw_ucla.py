"""NW-UCLA, cross-view: accuracy and seconds per epoch of every stage and fusion, beside a random encoder.

    python bench/nw_ucla.py SOURCE [--recipe paper] [--set field=value ...] [--stages ser,cml,inf,joint]
        [--seeds 0] [--json FILE] [--markdown FILE]

SOURCE is the zip or the folder of JSON clips that `crrl-fast prepare ucla` takes. Run it on an idle machine.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from crrl_fast.config import parse_assignments
from crrl_fast.data import catalog
from crrl_fast.evaluation import LinearProbe, NearestNeighbours, RunEvaluation, evaluate
from crrl_fast.files import write_json, write_text
from crrl_fast.run import CONCAT_ENCODER, CONCAT_PARTS, METRICS_FILE, RANDOM_ENCODER, RunFolder
from crrl_fast.training.pretrain import pretrain
from crrl_fast.training.request import STAGES, PretrainRequest
from crrl_fast.versions import software_versions

NAMES = {
    RANDOM_ENCODER: "random encoder",
    "ser": "SER",
    "cml": "CML",
    "inf": "INF (distillation)",
    "joint": "JOINT (one encoder, both losses)",
    CONCAT_ENCODER: "CONCAT (SER and CML side by side)",
}


def main(
    source: Path,
    recipe: Annotated[str, typer.Option()] = "paper",
    assignments: Annotated[list[str] | None, typer.Option("--set", help="field=value of the recipe.")] = None,
    stages: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(STAGES),
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "0",
    device: Annotated[str, typer.Option()] = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder of the runs; default: a temporary one.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown")] = None,
) -> None:
    """Pretrain and evaluate every stage on NW-UCLA."""
    console = Console()
    overrides = parse_assignments(assignments or [])
    with tempfile.TemporaryDirectory() as temporary:
        folder = out or Path(temporary)
        store = folder / "ucla.safetensors"
        catalog.prepare("ucla", source).save(store)
        runs = []
        for seed in (int(text) for text in seeds.split(",")):
            request = PretrainRequest.resolve(
                store,
                split="xview",
                recipe=recipe,
                overrides=overrides,
                stages=stages.split(","),
                out=folder / f"seed-{seed}",
                seed=seed,
                device=device,
                probe_every=0,
            )
            runs.append(measure(pretrain(request, console)))
    record = {
        "what": "NW-UCLA, cross-view, last epoch, percent of the test clips",
        "recipe_name": recipe,
        "recipe": asdict(request.recipe),
        "device": request.device.type,
        "threads": torch.get_num_threads(),
        "versions": software_versions(),
        "runs": runs,
    }
    table = markdown(record)
    console.print(table, highlight=False, soft_wrap=True, markup=False)
    if json_file:
        write_json(json_file, record)
    if markdown_file:
        write_text(markdown_file, table)


def measure(run: RunFolder) -> dict[str, Any]:
    """Return accuracies of every encoder of ``run`` and the seconds its epochs took."""
    rows = [json.loads(line) for line in (run.path / METRICS_FILE).read_text().splitlines()]
    stages = run.config.stages
    seconds = {stage: [row["seconds"] for row in rows if row["stage"] == stage] for stage in stages}
    if set(CONCAT_PARTS) <= set(stages):  # an epoch of the concatenation is one of each part
        seconds[CONCAT_ENCODER] = [sum(parts) for parts in zip(*(seconds[part] for part in CONCAT_PARTS), strict=True)]
    encoders = {}
    for name in (RANDOM_ENCODER, *seconds):
        evaluation = RunEvaluation.open(run, name, device=torch.device(run.config.device))
        encoders[name] = {
            "linear": evaluate(evaluation, LinearProbe())["accuracy"],
            "knn": evaluate(evaluation, NearestNeighbours())["accuracy"],
            "seconds_per_epoch": seconds.get(name, []),
        }
    return {"seed": run.config.seed, "encoders": encoders}


def markdown(record: dict[str, Any]) -> str:
    """Return the table: mean (and range) over seeds, median seconds per epoch and their 10 to 90 percent range."""
    lines = ["| encoder | linear, % | 1-NN, % | seconds per epoch |", "|---|---|---|---|"]
    for name in record["runs"][0]["encoders"]:
        runs = [run["encoders"][name] for run in record["runs"]]
        seconds = sorted(second for run in runs for second in run["seconds_per_epoch"])
        time = "-"
        if seconds:
            tenth = len(seconds) // 10
            time = f"{statistics.median(seconds):.1f} ({seconds[tenth]:.1f} to {seconds[-1 - tenth]:.1f})"
        linear, knn = (_over_seeds([run[score] for run in runs]) for score in ("linear", "knn"))
        lines.append(f"| {NAMES[name]} | {linear} | {knn} | {time} |")
    return "\n".join(lines) + "\n"


def _over_seeds(scores: list[float]) -> str:
    mean = f"{statistics.mean(scores):.1f}"
    return mean if len(scores) == 1 else f"{mean} ({min(scores):.1f} to {max(scores):.1f})"


if __name__ == "__main__":
    typer.run(main)
