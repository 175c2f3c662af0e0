import json

import pytest
import sweep
import torch
import typer
from typer.testing import CliRunner

from crrl_fast.data import catalog
from crrl_fast.errors import ConfigError, DataError

TRIALS = """
[[trial]]
name = "random"
stages = []
[trial.set]
hidden_size = 3

[[trial]]
name = "small"
preprocess = "center,downsample=12"
stages = ["ser"]
[trial.set]
steps = 2
hidden_size = 4
"""


@pytest.fixture(scope="module")
def demo():
    return catalog.prepare("demo", None, steps=())


def test_the_test_clips_are_in_no_part(demo):
    train, test = demo.split()
    store = sweep.folded(demo, (2, 5))
    assert list(store.info.splits) == ["subject", "camera-1", "camera-2", "camera-3"]
    held = train[torch.isin(demo.subject[train], torch.tensor([2, 5]))]
    for name in store.info.splits:
        fitted, scored = store.split(name)
        assert not set(test.tolist()) & {*fitted.tolist(), *scored.tolist()}
        camera = name.partition("-")[2]
        seen = train[demo.camera[train] != int(camera)] if camera else train[~torch.isin(train, held)]
        assert fitted.tolist() == seen.tolist()
        expected = held[demo.camera[held] == int(camera)] if camera else held
        assert scored.tolist() == expected.tolist()


def test_subjects_that_leave_nothing_are_refused(demo):
    for held_out in ((99,), tuple(range(1, 15))):
        with pytest.raises(DataError, match="leave nothing to train on or to score"):
            sweep.folded(demo, held_out)


def test_trials_run_once_and_are_recorded(tmp_path):
    app = typer.Typer()
    app.command()(sweep.main)
    (tmp_path / "trials.toml").write_text(TRIALS)
    record, table = tmp_path / "sweep.jsonl", tmp_path / "sweep.md"
    asked = [str(tmp_path / "trials.toml"), "--data", "demo", "--record", str(record), "--markdown", str(table)]
    assert CliRunner().invoke(app, asked, catch_exceptions=False).exit_code == 0
    rows = [json.loads(text) for text in record.read_text().splitlines()]
    assert [row["name"] for row in rows] == ["random", "small"]
    assert [row["recipe"]["hidden_size"] for row in rows] == [3, 4]
    assert rows[1]["recipe"]["steps"] == 2
    assert rows[1]["held_out"] == [2, 5, 8, 9]
    for row in rows:
        assert {what for part in row["scores"].values() for what in part} == {"subject", "camera"}
        assert 0 < sweep.score(row) < 100
    lines = table.read_text().splitlines()
    assert len(lines) == 4
    assert any("steps=2" in text and "hidden_size=4" in text and "center,downsample=12" in text for text in lines)
    CliRunner().invoke(app, asked, catch_exceptions=False)
    assert len(record.read_text().splitlines()) == 2


@pytest.mark.parametrize("entry", [{"stages": ["ser"]}, {"name": "a", "lr": 1}, {"name": "a", "set": {"speed": 1}}])
def test_unknown_entries_are_refused(entry):
    with pytest.raises(ConfigError):
        sweep.Trial.of(entry)


def test_the_table_holds_the_means_of_each_trial_the_best_first():
    def row(name, hidden_size, linear, minutes):
        scores = {"joint": {"subject": {"linear": linear, "knn": linear - 10}}}
        recipe = {"hidden_size": hidden_size}
        return {
            "name": name,
            "preprocess": "none",
            "stages": ["joint"],
            "recipe": recipe,
            "scores": scores,
            "minutes": minutes,
        }

    table = sweep.markdown([row("small", 4, 50.0, 1.0), row("large", 8, 60.0, 3.0), row("small", 4, 90.0, 2.0)])
    assert table.splitlines()[2:] == [
        "| small | joint | 2 | 70.0 | 60.0 | 65.0 | 1.5 | none | hidden_size=4 |",
        "| large | joint | 1 | 60.0 | 50.0 | 55.0 | 3.0 | none | hidden_size=8 |",
    ]
