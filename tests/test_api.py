"""Pretraining from Python."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import crrl_fast
from crrl_fast.errors import ConfigError, DataError
from crrl_fast.evaluation import NearestNeighbours, RunEvaluation, evaluate
from crrl_fast.run import RunFolder

ROOT = Path(__file__).parents[1]
SMALL = {"epochs": 1, "batch_size": 8, "hidden_size": 8, "queue_size": 8}
SET = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]


def records(path):
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "clips_per_second")} for row in rows]


@pytest.mark.parametrize(
    ("asked", "arguments"),
    [
        ({}, []),
        ({"fusion": "joint", "seed": 3, "probe_every": 1}, ["--fusion", "joint", "--seed", "3", "--probe-every", "1"]),
        (
            {"recipe": "fast", "stages": ["ser"], "split": "xview"},
            ["--recipe", "fast", "--stages", "ser", "--split", "xview"],
        ),
    ],
)
def test_python_and_the_command_line_make_the_same_run(tiny_path, tmp_path, asked, arguments, monkeypatch):
    from crrl_fast import cli

    run = crrl_fast.pretrain(tiny_path, out=tmp_path / "python", device="cpu", quiet=True, **asked, **SMALL)
    command = [
        "pretrain",
        "--data",
        str(tiny_path),
        "--out",
        str(tmp_path / "cli"),
        "--device",
        "cpu",
        *arguments,
        *SET,
    ]
    monkeypatch.setattr(sys, "argv", ["crrl-fast", *command])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    assert RunFolder.open(tmp_path / "cli").config == run.config
    assert records(tmp_path / "cli") == records(run.path)


def test_a_store_in_memory_becomes_a_run_that_can_be_evaluated_from_anywhere(tiny_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = crrl_fast.pretrain(tiny_store, quiet=True, **SMALL)
    assert run.path.parent == Path("runs")
    assert run.path.name.startswith("tiny-paper-")
    absolute = run.path.resolve()
    monkeypatch.chdir("/")
    reopened = RunFolder.open(absolute)
    assert reopened.config.data == str(absolute / "data/store.safetensors")
    clips = [tiny_store.clip(i).numpy() for i in range(3)]
    assert np.array_equal(crrl_fast.load(reopened).encode(clips), crrl_fast.load(absolute, "inf").encode(clips))
    record = evaluate(RunEvaluation.open(reopened), NearestNeighbours())
    assert (record["train_clips"], record["test_clips"], record["encoder"]) == (16, 8, "inf")
    assert record["accuracy"] == records(absolute)[-1]["knn"]


def test_what_it_prints_and_that_quiet_prints_nothing(tiny_store, tmp_path, capfd):
    crrl_fast.pretrain(tiny_store, out=tmp_path / "one", stages=("ser",), quiet=True, **SMALL)
    assert capfd.readouterr() == ("", "")
    crrl_fast.pretrain(tiny_store, out=str(tmp_path / "two"), stages=("ser",), **SMALL)
    printed = capfd.readouterr().out
    assert "16 training clips" in printed
    assert "ser   1/1" in printed


@pytest.mark.parametrize(
    ("data", "asked", "error", "message"),
    [
        ("absent.safetensors", {}, DataError, "absent.safetensors: no such file"),
        (None, {"epoch": 3}, ConfigError, "unknown recipe field 'epoch'"),
        (None, {"lr": -1}, ConfigError, "lr must be greater than 0"),
        (None, {"fusion": "late"}, ConfigError, "unknown fusion 'late'"),
        (None, {"fusion": "joint", "stages": ["ser"]}, ConfigError, "either a fusion or stages"),
        (None, {"split": "xsub"}, ConfigError, "no split 'xsub'"),
        (None, {"device": "tpu"}, ConfigError, "unknown device 'tpu'"),
    ],
)
def test_mistakes_leave_no_run(tiny_store, tmp_path, monkeypatch, data, asked, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        crrl_fast.pretrain(data or tiny_store, **asked)
    assert not (tmp_path / "runs").exists()


def test_importing_the_package_is_light():
    heavy = ("rich", "typer", "tensorboard", "sklearn", "matplotlib", "crrl_fast.training", "crrl_fast.evaluation")
    code = f"import sys, crrl_fast; print([name for name in {heavy} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert printed.stdout == "[]\n"
