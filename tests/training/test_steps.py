"""A stage whose length is given in optimiser steps: everything that counts epochs counts those that they come to."""

import io
import json

import pytest
from rich.console import Console

import crrl_fast
from crrl_fast.config import Recipe
from crrl_fast.errors import ConfigError
from crrl_fast.run import RunFolder
from crrl_fast.training.pretrain import pretrain as run_pretraining
from crrl_fast.training.request import PretrainRequest
from tests.training.runs import assert_same_runs, interrupted, metrics, pretrain


@pytest.mark.parametrize(("steps", "epochs"), [(0, 60), (1, 1), (4, 1), (5, 2), (8, 2), (9, 3), (1000, 250)])
def test_steps_are_rounded_up_to_whole_epochs(steps, epochs):
    recipe = Recipe(steps=steps, batch_size=5)
    assert recipe.steps_per_epoch(16) == 4
    assert recipe.epochs_on(16) == epochs


def test_steps_replace_epochs(tiny_path, tmp_path):
    """16 clips in batches of 5 are 4 steps an epoch, so that 10 steps are 3 epochs."""
    run = pretrain(tiny_path, tmp_path / "run", epochs=60, steps=10, probe_every=2)
    rows = metrics(run.path)
    assert [(row["stage"], row["epoch"]) for row in rows] == [(s, e) for s in ("cml", "inf") for e in (1, 2, 3)]
    assert ["knn" in row for row in rows] == [False, True, True] * 2  # every second epoch and the last
    assert (run.config.training_clips, run.config.epochs) == (16, 3)
    by_epochs = pretrain(tiny_path, tmp_path / "epochs", epochs=3, probe_every=2)
    assert_same_runs(run.path, by_epochs.path)


def test_the_display_counts_the_epochs_of_the_steps(tiny_path, tmp_path):
    printed = io.StringIO()
    overrides = {"steps": 7, "batch_size": 5, "hidden_size": 8, "queue_size": 9}
    request = PretrainRequest.resolve(
        tiny_path, out=tmp_path / "run", stages="ser", device="cpu", overrides=overrides, probe_every=0
    )
    run_pretraining(request, Console(file=printed, width=200))
    assert "ser   1/2" in printed.getvalue()
    assert "ser   2/2" in printed.getvalue()


@pytest.mark.parametrize("taken", [6, 9, 15])
def test_a_run_of_steps_goes_on_bit_by_bit_and_then_is_done(tiny_path, tmp_path, monkeypatch, taken):
    whole = pretrain(tiny_path, tmp_path / "whole", steps=7)
    run = tmp_path / "run"
    interrupted(monkeypatch, tiny_path, run, taken, steps=7)
    resumed = crrl_fast.pretrain(resume=run, quiet=True)
    assert resumed.config == whole.config
    assert_same_runs(run, whole.path)
    crrl_fast.pretrain(resume=run, quiet=True)  # has finished already
    assert_same_runs(run, whole.path)
    crrl_fast.pretrain(resume=run, quiet=True, steps=9, force=True)
    assert [row["epoch"] for row in metrics(run)] == [1, 2, 1, 2, 3]


def test_a_config_of_steps_needs_its_clips(tiny_path, tmp_path):
    run = pretrain(tiny_path, tmp_path / "run", stages=("ser",), steps=4).path
    values = json.loads((run / "config.json").read_text())
    values["training_clips"] = 0
    (run / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"config\.json: training_clips is 0, which it cannot be"):
        RunFolder.open(run)
    del values["training_clips"], values["recipe"]["steps"]  # as before there were any
    (run / "config.json").write_text(json.dumps(values))
    assert RunFolder.open(run).config.epochs == 3
