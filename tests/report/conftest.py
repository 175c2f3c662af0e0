"""Run folders as pretraining and evaluation leave them, made without training."""

import json
from dataclasses import replace

import pytest

from crrl_fast.config import Recipe
from crrl_fast.seeding import seed_everything
from tests.runs import config_on, untrained_run

RECIPE = Recipe(epochs=2, hidden_size=4, layers=1, lr=0.2)


def epoch_record(stage, epoch, **values):
    return {
        "stage": stage,
        "epoch": epoch,
        "loss": 4.0 / epoch,
        "lr": 0.2,
        "seconds": 2.0,
        "clips_per_second": 8.0 * epoch,
        "knn": 30.0 + epoch,
        **values,
    }


def evaluation_record(kind="linear", **values):
    """Return a record on three classes: 8 test clips, of which 5 are right; the third class has none."""
    return {
        "evaluation": kind,
        "protocol": f"how {kind} is done",
        "run": "somewhere",
        "encoder": "inf",
        "dataset": "tiny",
        "split": "xview",
        "train_clips": 16,
        "test_clips": 8,
        "class_names": ["sit", "stand", "wave"],
        "accuracy": 62.5,
        "per_class": [75.0, 50.0, None],
        "confusion": [[3, 1, 0], [0, 2, 2], [0, 0, 0]],
        "versions": {},
        **values,
    }


@pytest.fixture
def make_run(tmp_path):
    """Return a function that makes a run folder on a store, finished and logged, with ``records`` as evaluations."""

    def make(store, path, name="run", *, stages=("cml", "inf"), records=None, recipe=RECIPE, split=None, finished=None):
        versions = {"crrl_fast": "0.1.0", "torch": "2.13.0", "commit": None}
        config = config_on(store, path, recipe, stages, split=split, seed=7, versions=versions, training_clips=16)
        saved = stages if finished is None else finished
        run = untrained_run(
            tmp_path / name, config, saved, lambda number: seed_everything(recipe.epochs, saved[number])
        )
        lines = [epoch_record(stage, epoch) for stage in stages for epoch in range(1, recipe.epochs + 1)]
        (run.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        write_records(run.path, [evaluation_record()] if records is None else records)
        return run

    return make


def write_records(folder, records):
    for record in records:
        (folder / "eval").mkdir(exist_ok=True)
        name = f"{record['evaluation']}-{record['encoder']}"
        (folder / "eval" / f"{name}.json").write_text(json.dumps(record))


@pytest.fixture
def tiny_run(make_run, tiny_store, tiny_path):
    """Return a finished run on the tiny store with a linear probe."""
    return make_run(tiny_store, tiny_path)


@pytest.fixture
def unlabelled(tiny_store):
    """Return the tiny store without its labels."""
    info = replace(tiny_store.info, class_names=())
    return replace(tiny_store, labels=tiny_store.labels.new_full((len(tiny_store),), -1), info=info).hashed()


@pytest.fixture
def two_examples(monkeypatch):
    """Draw two clips with their neighbours instead of six: drawing takes most of the time."""
    from crrl_fast.report import build

    monkeypatch.setattr(build, "_EVEN", 1)
    monkeypatch.setattr(build, "_MISLED", 1)
