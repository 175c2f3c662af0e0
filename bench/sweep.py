"""Trials of recipes, chosen between without the test clips: some subjects of the training clips are held out.

    python bench/sweep.py TRIALS.toml SOURCE --record FILE.jsonl [--held-out 2,5,8,9] [--seeds 0] [--data ucla]
        [--markdown FILE]

Each `[[trial]]` of TRIALS.toml has a `name`, and may have a `recipe`, `preprocess` (as `crrl-fast prepare --preprocess`
takes it), `stages` other than the recipe's (an empty list scores a random encoder) and recipe fields in `set`. It
trains on the clips of the other subjects. It is scored by the linear probe and the nearest neighbour twice: on the
held-out subjects (`subject`); and, where there are several cameras, on what one of them has seen of the held-out
subjects, where the probe knows what the others have seen, of all subjects (`camera`, the mean over cameras), which is
nearer to a test by camera. The clips of the test part are in neither. Every trial that has run is one line of the
record, and is not run again.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from crrl_fast.config import Recipe
from crrl_fast.data import catalog
from crrl_fast.data.clip import UNKNOWN
from crrl_fast.data.info import Split
from crrl_fast.data.preprocess import parse_steps, write_steps
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError, DataError
from crrl_fast.evaluation import LinearProbe, NearestNeighbours, RunEvaluation, evaluate
from crrl_fast.files import write_text
from crrl_fast.fusion import get_fusion
from crrl_fast.recipes import get_recipe
from crrl_fast.run import RANDOM_ENCODER, RunFolder
from crrl_fast.training.pretrain import pretrain
from crrl_fast.training.request import PretrainRequest
from crrl_fast.versions import software_versions

SUBJECT, CAMERA = "subject", "camera"
# Added to the camera of a clip that is held out; there are fewer cameras.
_HELD_OUT = 1000


@dataclass(frozen=True)
class Trial:
    """What is tried.

    Attributes:
        name: what tables call it.
        preprocess: steps of preprocessing, as texts.
        stages: that are trained; none scores a random encoder.
        recipe: in full.
    """

    name: str
    preprocess: str
    stages: tuple[str, ...]
    recipe: Recipe

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Trial:
        """Read an entry of the file.

        Raises:
            ConfigError: it lacks a name, or holds something unknown.
        """
        known = {"name", "recipe", "preprocess", "stages", "set"}
        if "name" not in entry or not entry.keys() <= known:
            raise ConfigError(f"trial {dict(entry)}: expected name, and of {', '.join(sorted(known))} nothing else")
        recipe = get_recipe(entry.get("recipe", "paper")).with_overrides(entry.get("set", {}))
        preprocess = write_steps(parse_steps(entry.get("preprocess", "center,downsample=60")))
        return cls(entry["name"], preprocess, tuple(entry.get("stages", get_fusion(recipe.fusion).stages)), recipe)

    def key(self, seed: int, held_out: tuple[int, ...]) -> str:
        """Return what two trials have in common that give the same result."""
        values = [self.preprocess, self.stages, asdict(self.recipe), seed, held_out]
        return json.dumps(values, sort_keys=True)


def main(
    trials: Path,
    source: Annotated[Path | None, typer.Argument(help="Of the data set; `demo` has none.")] = None,
    record: Annotated[Path, typer.Option(help="One line a trial; lines are added.")] = Path("sweep.jsonl"),
    data: Annotated[str, typer.Option()] = "ucla",
    held_out: Annotated[str, typer.Option(help="Subjects, comma-separated.")] = "2,5,8,9",
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "0",
    markdown_file: Annotated[Path | None, typer.Option("--markdown")] = None,
) -> None:
    """Run the trials that have not run, and print all of them, the best first."""
    console = Console()
    subjects = tuple(int(text) for text in held_out.split(","))
    wanted = [Trial.of(entry) for entry in tomllib.loads(trials.read_text()).get("trial", [])]
    done = {row["key"] for row in read(record)}
    raw = catalog.prepare(data, source, steps=())
    with tempfile.TemporaryDirectory() as folder:
        for trial in wanted:
            for seed in (int(text) for text in seeds.split(",")):
                if trial.key(seed, subjects) in done:
                    continue
                row = run(trial, seed, subjects, raw, Path(folder, f"{len(done)}"))
                done.add(row["key"])
                with record.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                console.print(line([row]), highlight=False, soft_wrap=True, markup=False)
    table = markdown(read(record))
    console.print(table, highlight=False, soft_wrap=True, markup=False)
    if markdown_file:
        write_text(markdown_file, table)


def read(record: Path) -> list[dict[str, Any]]:
    """Return the trials that have run."""
    return [json.loads(text) for text in record.read_text().splitlines()] if record.is_file() else []


def folded(raw: Store, held_out: tuple[int, ...]) -> Store:
    """Return ``raw`` with the splits of a sweep: ``subject``, and one for each camera of the training clips.

    The field ``fold`` is the camera of clips that are trained on, and that and 1,000 of those held out; the test clips
    have none.

    Raises:
        DataError: the training clips have no subjects, or none of those held out.
    """
    train, _ = raw.split()
    is_held = torch.isin(raw.subject[train], torch.tensor(held_out))
    if not is_held.any() or is_held.all():
        known = ", ".join(map(str, raw.subject[train].unique().tolist()))
        raise DataError(
            f"{raw.info.dataset}: of its subjects {known}, {held_out} leave nothing to train on or to score"
        )
    fold = torch.full_like(raw.subject, UNKNOWN)
    camera = raw.camera[train].clamp(min=0)
    fold[train] = camera + _HELD_OUT * is_held
    fitted, held = (tuple(camera[part].unique().tolist()) for part in (~is_held, is_held))
    splits = {SUBJECT: Split("fold", fitted, tuple(one + _HELD_OUT for one in held))}
    if len(held) > 1:
        for one in held:
            seen = [other for other in fitted if other != one] + [other + _HELD_OUT for other in held if other != one]
            splits[f"{CAMERA}-{one}"] = Split("fold", tuple(seen), (one + _HELD_OUT,))
    return replace(raw, fold=fold, info=replace(raw.info, splits=splits))


def run(trial: Trial, seed: int, held_out: tuple[int, ...], raw: Store, folder: Path) -> dict[str, Any]:
    """Train and score a trial; return its line of the record."""
    store = folded(raw, held_out).processed(parse_steps(trial.preprocess))
    request = PretrainRequest.resolve(
        store,
        split=SUBJECT,
        recipe=trial.recipe if trial.stages else trial.recipe.with_overrides({"steps": 1}),
        stages=trial.stages or ("ser",),
        out=folder,
        seed=seed,
        probe_every=0,
    )
    began = time.perf_counter()
    finished = pretrain(request, Console(quiet=True))
    minutes = (time.perf_counter() - began) / 60
    encoders = trial.stages or (RANDOM_ENCODER,)
    return {
        "key": trial.key(seed, held_out),
        "name": trial.name,
        "preprocess": trial.preprocess,
        "stages": trial.stages,
        "recipe": asdict(trial.recipe),
        "seed": seed,
        "held_out": held_out,
        "dataset": store.info.dataset,
        "scores": {encoder: _scores(finished, encoder, store) for encoder in encoders},
        "minutes": minutes if trial.stages else 0.0,
        "threads": torch.get_num_threads(),
        "versions": software_versions(),
    }


def _scores(finished: RunFolder, encoder: str, store: Store) -> dict[str, dict[str, float]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for split in store.info.splits:
        evaluation = RunEvaluation.open(finished, encoder, split=split)
        linear, nearest = evaluate(evaluation, LinearProbe()), evaluate(evaluation, NearestNeighbours())
        found.setdefault(split.partition("-")[0], []).append((linear["accuracy"], nearest["accuracy"]))
    return {
        part: {"linear": statistics.mean(x for x, _ in pairs), "knn": statistics.mean(x for _, x in pairs)}
        for part, pairs in found.items()
    }


def score(row: Mapping[str, Any]) -> float:
    """Return what trials are chosen by: the mean of all scores of the last stage's encoder."""
    return statistics.mean(value for part in _last(row).values() for value in part.values())


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the table of all trials, the best first: means over seeds and held-out subjects."""
    parts = [SUBJECT, CAMERA] if any(CAMERA in _last(row) for row in rows) else [SUBJECT]
    heads = [f"{part}, {what}" for part in parts for what in ("linear", "1-NN")]
    columns = ["trial", "stages", "runs", *heads, "mean", "minutes", "preprocessing", "fields"]
    trials: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        trials.setdefault(json.dumps([row["preprocess"], row["stages"], row["recipe"]]), []).append(row)
    best_first = sorted(trials.values(), key=lambda runs: statistics.mean(map(score, runs)), reverse=True)
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *map(line, best_first)]) + "\n"


def line(runs: list[dict[str, Any]]) -> str:
    """Return a trial as a row of the table."""
    first, last = runs[0], [_last(run) for run in runs]
    scores = [statistics.mean(one[part][what] for one in last) for part in last[0] for what in ("linear", "knn")]
    numbers = [*scores, statistics.mean(map(score, runs)), statistics.mean(run["minutes"] for run in runs)]
    paper = json.loads(json.dumps(asdict(Recipe())))
    recipe = json.loads(json.dumps(first["recipe"]))
    fields = " ".join(f"{name}={value}" for name, value in recipe.items() if value != paper.get(name))
    stages = ",".join(first["stages"]) or RANDOM_ENCODER
    cells = [first["name"], stages, str(len(runs)), *(f"{number:.1f}" for number in numbers)]
    return f"| {' | '.join([*cells, first['preprocess'], fields])} |"


def _last(row: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return list(row["scores"].values())[-1]  # type: ignore[no-any-return]


if __name__ == "__main__":
    typer.run(main)
