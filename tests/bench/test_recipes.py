import json

import pytest
import recipes
import torch
import typer
from typer.testing import CliRunner

from crrl_fast.config import Recipe
from crrl_fast.data import catalog

QUICK = {"slow": Recipe(epochs=1, hidden_size=4), "quick": Recipe(steps=2, hidden_size=4, fusion="joint")}


@pytest.fixture
def app(monkeypatch):
    monkeypatch.setattr(recipes, "get_recipe", QUICK.__getitem__)
    monkeypatch.setattr("crrl_fast.training.request.get_recipe", QUICK.__getitem__)
    monkeypatch.setattr(recipes, "_SUPERVISED_STEPS", 3)
    app = typer.Typer()
    app.command()(recipes.main)
    return app


def test_a_cut_keeps_the_test_clips_and_draws_by_the_seed():
    demo = catalog.prepare("demo", None)
    train, test = demo.split()
    drawn = [recipes.cut_to(demo, 100, seed).split() for seed in (0, 0, 1)]
    for some, all_of_test in drawn:
        assert len(some) == 100
        assert set(some.tolist()) <= set(train.tolist())
        assert torch.equal(all_of_test, test)
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert not torch.equal(drawn[0][0], drawn[2][0])


def test_every_recipe_is_run_once_on_whole_sets_and_on_cuts(app, tmp_path, monkeypatch):
    record, table = tmp_path / "recipes.jsonl", tmp_path / "recipes.md"
    asked = ["unused", "--sets", "demo", "--recipes", "slow,quick", "--cut", "96", "--draws", "1", "--seeds", "3"]
    asked += ["--supervised", "quick", "--record", str(record), "--markdown", str(table)]
    assert CliRunner().invoke(app, asked, catch_exceptions=False).exit_code == 0
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    assert [(row["clips"], row["seed"], row["recipe"]) for row in rows] == [
        (0, 3, "slow"),
        (0, 3, "quick"),
        (96, 0, "slow"),
        (96, 0, "quick"),
    ]
    assert [row["training_clips"] for row in rows] == [672, 672, 96, 96]
    assert [list(row["scores"]) for row in rows] == [
        ["inf", "random"],
        ["joint", "random", "supervised"],
    ] * 2
    lines = table.read_text().splitlines()
    assert len(lines) == 2 + 10
    assert f"`quick` | 1 | {rows[3]['scores']['supervised']['finetune']:.1f} (" in lines[-2]
    assert "| demo, 96 training clips | `quick` (joint) | 1 |" in lines[-1]
    CliRunner().invoke(app, asked, catch_exceptions=False)
    assert len(record.read_text().splitlines()) == 4
    monkeypatch.setitem(QUICK, "quick", Recipe(steps=1, hidden_size=4, fusion="joint"))
    CliRunner().invoke(app, [*asked, "--seeds", ""], catch_exceptions=False)
    assert len(record.read_text().splitlines()) == 5
    assert sum("`quick` (joint)" in line for line in table.read_text().splitlines()) == 1  # the whole set's has changed
