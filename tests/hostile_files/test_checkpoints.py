"""Runs that are gone on with, whose checkpoints a stranger forged: their hashes fit."""

import hashlib
import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.bounded import READ
from tests.training.runs import interrupted


@pytest.fixture
def run(tmp_path, tiny_path, monkeypatch):
    """Leave a run that was stopped within an epoch of ``cml``."""
    interrupted(monkeypatch, tiny_path, tmp_path / "run", 6, stages="cml", keep=1)
    return tmp_path / "run"


@pytest.fixture
def forge(run):
    """Return a function that changes tensors or values of the run's checkpoint and makes its hashes fit."""
    (hashes,) = (run / "checkpoints").glob("*.sha256")
    parts = [hashes.with_suffix(suffix) for suffix in (".safetensors", ".pt")]

    def forge(tensors=lambda tensors: None, values=lambda values: None):
        for part, load, save, change in (
            (parts[0], load_file, save_file, tensors),
            (parts[1], lambda path: torch.load(path, weights_only=True), torch.save, values),
        ):
            content = load(part)
            change(content)
            save(content, part)
        hashes.write_text("".join(f"{hashlib.sha256(x.read_bytes()).hexdigest()}  {x.name}\n" for x in parts))

    forge()
    return forge


def test_one_that_was_only_written_again_is_gone_on_with(reader, run, forge):
    outcome, what = reader("resume", run)
    assert outcome == READ, what
    assert (run / "cml.safetensors").exists()


def logged(**values):
    record = {"stage": "cml", "epoch": 1, "loss": 1.0, **values}
    return lambda stored: stored.update(metrics=json.dumps(record) + "\n")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda values: values.update(finished=json.dumps({"../../../dev/zero": "0" * 64})), "its stages are none"),
        (lambda values: values.update(finished=json.dumps({"a\0": ""})), "its stages are none"),
        (lambda values: values.update(stage="\ud800"), "its stages are none"),
        (lambda values: values.update(losses="loss,loss"), "has losses"),
        (lambda values: values.update(losses="loss"), "has losses"),
        (lambda values: values.update(losses="accuracy,loss"), "has losses"),
        (lambda values: values.update(losses="x"), "does not fit"),
        (lambda values: values.update(step=10**6), "does not fit"),
        (lambda values: values.update(config="[" * 100_000), "not a usable checkpoint"),
        (lambda values: values.update(config="9" * 5000), "not a usable checkpoint"),
        (logged(epoch=10**30), "no log of epochs"),
        (logged(epoch=True), "no log of epochs"),
        (logged(loss=10**400), "no log of epochs"),
        (logged(stage="\ud800"), "no log of epochs"),
        (logged(**{"\ud800": 1}), "no log of epochs"),
        (lambda values: values.update(metrics="\ud800\n"), "is no log"),
    ],
)
def test_values(refused, run, forge, values, message):
    forge(values=values)
    assert message in refused("resume", run)


@pytest.mark.parametrize("name", ["random.order", "random.host"])
@pytest.mark.parametrize(
    "change",
    [torch.Tensor.double, lambda x: x[:8], lambda x: torch.zeros(0, dtype=x.dtype), lambda x: torch.full_like(x, 255)],
)
def test_generators(refused, run, forge, name, change):
    forge(tensors=lambda tensors: tensors.update({name: change(tensors[name]).clone()}))
    assert "does not fit" in refused("resume", run)


@pytest.mark.parametrize("value", [-1, 1 << 62, -(1 << 63)])
@pytest.mark.parametrize("name", ["module.queue.cursor", "module.queue.filled"])
def test_a_queue_that_stands_elsewhere_is_not_read_beyond_its_end(reader, run, forge, name, value):
    forge(tensors=lambda tensors: tensors[name].fill_(value))
    outcome, what = reader("resume", run)
    assert outcome == READ, what


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".sha256"])
@pytest.mark.parametrize("what", ["pipe", "device", "large"])
def test_what_is_no_file_or_too_large(refused, run, forge, suffix, what):
    (path,) = (run / "checkpoints").glob(f"*{suffix}")
    if what == "large":
        os.truncate(path, 1 << 40)  # sparse
    else:
        path.unlink()
        os.mkfifo(path) if what == "pipe" else path.symlink_to("/dev/zero")
    refused("resume", run)


@pytest.mark.parametrize("name", [".lock", ".metrics.jsonl.PROCESS.tmp"])
def test_links_in_a_run_folder_change_nothing_elsewhere(run, name):
    import crrl_fast
    from crrl_fast.errors import ConfigError

    elsewhere = run.parent / "precious"
    elsewhere.write_text("precious")
    (run / name.replace("PROCESS", str(os.getpid()))).symlink_to(elsewhere)
    try:
        crrl_fast.pretrain(resume=run, device="cpu", quiet=True)
    except ConfigError as error:
        assert name == ".lock"
        assert f"{run}: cannot be written to" in str(error)
    assert elsewhere.read_text() == "precious"
