"""Recipes beside each other and beside random encoders, on whole data sets and on small cuts of them.

    python bench/recipes.py SOURCE --record FILE.jsonl [--recipes paper,fast] [--sets ucla,demo] [--seeds 0,1,2,3,4]
        [--cut 300] [--draws 3] [--supervised fast] [--markdown FILE]

SOURCE is what `crrl-fast prepare ucla` takes; `demo` needs none. Each recipe is trained as `crrl-fast pretrain` does
it, with every seed on the first split of each set, and with `--draws` seeds on that split cut to `--cut` training
clips, which are drawn by the seed; the test clips stay. Accuracies are those of the last epoch. A random encoder is
evaluated as the recipe's is: with its preprocessing, feature and whitening. For the recipes of `--supervised` it is
also trained with the labels, as `crrl-fast eval finetune` does it, for 1,000 steps: what labels alone make of these
clips. Run it on an idle machine: the minutes are those of the whole pretraining. Every run is one line of the record,
and is not run again; the table leaves out those of recipes that have changed since.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from crrl_fast.data import catalog
from crrl_fast.data.clip import UNKNOWN
from crrl_fast.data.info import Split
from crrl_fast.data.store import Store
from crrl_fast.evaluation import FineTune, LinearProbe, NearestNeighbours, RunEvaluation, Tuning, evaluate
from crrl_fast.files import write_text
from crrl_fast.recipes import get_recipe
from crrl_fast.run import RANDOM_ENCODER, RunFolder
from crrl_fast.training.pretrain import pretrain
from crrl_fast.training.request import PretrainRequest
from crrl_fast.versions import software_versions

_WHOLE = 0
_TRAIN, _TEST = 0, 1
_SUPERVISED = "supervised"
_PROBES = ("linear", "knn")
# Small sets get the steps of NW-UCLA: with the 30 epochs of `eval finetune` they would get too few to be learned.
_SUPERVISED_STEPS = 1000


@dataclass(frozen=True)
class Job:
    """One training: of a recipe, on a set or on ``clips`` training clips of it (0: all), with a seed."""

    dataset: str
    clips: int
    seed: int
    recipe: str

    def key(self) -> list[Any]:
        """Return what a line of the record is known by: the recipe counts by its fields, not by its name alone."""
        recipe: list[Any] = json.loads(json.dumps([*asdict(self).values(), asdict(get_recipe(self.recipe))]))
        return recipe


def main(
    source: Path,
    record: Annotated[Path, typer.Option(help="One line a run; lines are added.")] = Path("recipes.jsonl"),
    recipes: Annotated[str, typer.Option(help="Comma-separated.")] = "paper,fast",
    sets: Annotated[str, typer.Option(help="Comma-separated.")] = "ucla,demo",
    seeds: Annotated[str, typer.Option(help="Of whole sets; empty for none.")] = "0,1,2,3,4",
    cut: Annotated[int, typer.Option(help="Training clips of the small sets.")] = 300,
    draws: Annotated[int, typer.Option(help="Small sets of each set.")] = 3,
    supervised: Annotated[str, typer.Option(help="Recipes, comma-separated.")] = "",
    markdown_file: Annotated[Path | None, typer.Option("--markdown")] = None,
) -> None:
    """Run the jobs that have not run, and print the table of all."""
    console = Console()
    stores = {name: catalog.prepare(name, source if name == "ucla" else None) for name in sets.split(",")}
    done = [row["key"] for row in read(record)]
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs(list(stores), [int(text) for text in seeds.split(",") if text], cut, draws, recipes.split(",")):
            if job.key() in done:
                continue
            row = run(job, stores[job.dataset], Path(folder, str(len(done))), job.recipe in supervised.split(","))
            done.append(row["key"])
            with record.open("a") as file:
                file.write(json.dumps(row) + "\n")
            console.print_json(
                json.dumps({"job": asdict(job), **row["scores"], "minutes": row["minutes"]}), indent=None
            )
    table = markdown([row for row in read(record) if row["key"] == job_of(row).key()])
    console.print(table, highlight=False, soft_wrap=True, markup=False)
    if markdown_file:
        write_text(markdown_file, table)


def read(record: Path) -> list[dict[str, Any]]:
    """Return the runs that a record holds."""
    return [json.loads(text) for text in record.read_text().splitlines()] if record.is_file() else []


def job_of(row: dict[str, Any]) -> Job:
    """Return what ran; its key is that of the row if the recipe has not changed since."""
    return Job(*(row[field.name] for field in fields(Job)))


def jobs(sets: list[str], seeds: list[int], cut: int, draws: int, recipes: list[str]) -> Iterator[Job]:
    """Return all, recipes taking turns, so that a machine that slows down slows them alike."""
    for name in sets:
        for seed in seeds:
            yield from (Job(name, _WHOLE, seed, recipe) for recipe in recipes)
        for seed in range(draws):
            yield from (Job(name, cut, seed, recipe) for recipe in recipes)


def cut_to(store: Store, clips: int, seed: int) -> Store:
    """Return ``store`` with one split, of ``clips`` training clips of its first one, drawn by ``seed``."""
    train, test = store.split()
    drawn = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:clips]]
    fold = torch.full_like(store.labels, UNKNOWN)
    fold[drawn], fold[test] = _TRAIN, _TEST
    split = Split("fold", (_TRAIN,), (_TEST,))
    return replace(store, fold=fold, info=replace(store.info, splits={f"{clips}-of-{len(train)}": split}))


def run(job: Job, whole: Store, folder: Path, supervised: bool) -> dict[str, Any]:
    """Train and evaluate; return the line of the record."""
    store = whole if job.clips == _WHOLE else cut_to(whole, job.clips, job.seed)
    request = PretrainRequest.resolve(store, recipe=job.recipe, out=folder, seed=job.seed, probe_every=0)
    began = time.perf_counter()
    finished = pretrain(request, Console(quiet=True))
    minutes = (time.perf_counter() - began) / 60
    scores = {name: _scores(finished, name) for name in (finished.default_encoder(), RANDOM_ENCODER)}
    if supervised:
        scores[_SUPERVISED] = {"finetune": _supervised(finished)}
    return {
        "key": job.key(),
        **asdict(job),
        "stages": request.stages,
        "training_clips": len(store.split()[0]),
        "scores": scores,
        "minutes": minutes,
        "device": request.device.type,
        "threads": torch.get_num_threads(),
        "versions": software_versions(),
    }


def _scores(finished: RunFolder, encoder: str) -> dict[str, float]:
    evaluation = RunEvaluation.open(finished, encoder)
    linear, nearest = evaluate(evaluation, LinearProbe()), evaluate(evaluation, NearestNeighbours())
    return {"linear": linear["accuracy"], "knn": nearest["accuracy"]}


def _supervised(finished: RunFolder) -> float:
    evaluation = RunEvaluation.open(finished, RANDOM_ENCODER)
    steps_an_epoch = -(-len(evaluation.clips.train) // Tuning().batch_size)
    protocol = FineTune(Tuning(epochs=-(-_SUPERVISED_STEPS // steps_an_epoch)))
    return float(evaluate(evaluation, protocol)["accuracy"])


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the table: means and ranges over the seeds."""
    lines = ["| set | encoder | seeds | linear, % | 1-NN, % | minutes |", "|---|---|---|---|---|---|"]
    groups: dict[tuple[str, int], dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        groups.setdefault((row["dataset"], row["clips"]), {}).setdefault(row["recipe"], []).append(row)
    for (name, clips), by_recipe in groups.items():
        label = name if clips == _WHOLE else f"{name}, {clips} training clips"
        for recipe, runs in by_recipe.items():
            trained = next(iter(runs[0]["scores"]))
            minutes = _spread([run["minutes"] for run in runs])
            for what, encoder, protocols, time_taken in (
                (f"random, as in `{recipe}`", RANDOM_ENCODER, _PROBES, "-"),
                (f"trained with the labels, as in `{recipe}`", _SUPERVISED, ("finetune",), "-"),
                (f"`{recipe}` ({','.join(runs[0]['stages'])})", trained, _PROBES, minutes),
            ):
                scores = [run["scores"][encoder] for run in runs if encoder in run["scores"]]
                if scores:
                    cells = [_spread([score[protocol] for score in scores]) for protocol in protocols]
                    linear, nearest = (*cells, "-")[:2]
                    lines.append(f"| {label} | {what} | {len(scores)} | {linear} | {nearest} | {time_taken} |")
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    typer.run(main)
