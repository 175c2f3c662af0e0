"""A store that goes away or changes under a running job, or holds what is no number."""

import os
import re
import shutil
from dataclasses import replace

import pytest
import torch

import crrl_fast
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError, DataError
from crrl_fast.evaluation import NearestNeighbours, RunEvaluation, evaluate
from crrl_fast.training.checkpoint import checkpoints_in, read_checkpoint
from crrl_fast.training.stopping import Interruption
from tests.conftest import one_line_error, random_walks
from tests.stores import save_with_stale_hash
from tests.training.runs import assert_same_runs, at_step, interrupted, pretrain, stop_after


def delete(path):
    path.unlink()


def rename(path):
    path.rename(path.with_name("elsewhere"))


def truncate(path):
    os.truncate(path, 4096)


def overwrite(path):
    """In place, as large as before: what maps the file sees zeros."""
    with path.open("r+b") as file:
        file.seek(-20_000, os.SEEK_END)
        file.write(bytes(20_000))


def put_another_in_its_place(path):
    Store.from_arrays(random_walks(30, seed=5), camera=[1] * 30, layout="kinect20").save(path)


FAULTS = {
    delete: r"has vanished \(.*\)",
    rename: r"has vanished \(.*\)",
    truncate: r"was written to \(\d+ bytes, now 4096\)",
    overwrite: r"was written to \(as large as before, last written .*, now .*\)",
    put_another_in_its_place: r"was replaced by another file \(\d+ bytes, now \d+\)",
}
faults = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)


@faults
def test_a_run_goes_on_with_what_it_read(tiny_path, tmp_path, monkeypatch, capsys, fault):
    whole = pretrain(tiny_path, tmp_path / "whole")
    at_step(monkeypatch, 2, lambda: fault(tiny_path))
    pretrain(tiny_path, tmp_path / "run", quiet=False)
    assert_same_runs(tmp_path / "run", whole.path)
    told = [line for line in capsys.readouterr().out.splitlines() if str(tiny_path) in line]
    assert len(told) == 1
    assert re.search(f"{FAULTS[fault]}: this run goes on with what it read", told[0])


@faults
def test_nothing_that_was_saved_is_lost(tiny_path, tmp_path, monkeypatch, fault):
    """It is interrupted after that, refused without its store, and goes on where that is there again."""
    whole = pretrain(tiny_path, tmp_path / "whole")
    kept = shutil.copy(tiny_path, tmp_path / "kept")
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Interruption):
        at_step(patch, 5, lambda: fault(tiny_path))
        stop_after(patch, 7)
        pretrain(tiny_path, run, checkpoint_every=1)
    saved = checkpoints_in(run)
    with pytest.raises((DataError, ConfigError)) as error:
        crrl_fast.pretrain(resume=run, quiet=True)
    message = str(error.value)
    if fault is put_another_in_its_place:
        assert "was started otherwise: data " in message
    else:
        assert str(tiny_path) in message
        assert f"{run} is saved up to cml epoch 2, step 3 and goes on with --resume" in message
    assert checkpoints_in(run) == saved
    assert read_checkpoint(saved[-1]).state.epoch == 2
    shutil.move(kept, tiny_path)
    crrl_fast.pretrain(resume=run, quiet=True)
    assert_same_runs(run, whole.path)


def test_a_store_in_memory_may_be_changed_while_it_is_trained_on(tiny_store, tmp_path, monkeypatch):
    whole = pretrain(tiny_store, tmp_path / "whole")
    at_step(monkeypatch, 2, tiny_store.frames.zero_)
    pretrain(tiny_store, tmp_path / "run")
    assert_same_runs(tmp_path / "run", whole.path)


def test_a_store_that_was_changed_in_memory_is_known_by_what_it_holds(tiny_store, tmp_path):
    changed = replace(tiny_store, frames=2 * tiny_store.frames)
    run = pretrain(changed, tmp_path / "run", align="none")
    assert run.config.data_sha256 == changed.digest() != tiny_store.info.sha256
    assert torch.equal(RunEvaluation.open(run).clips.store.frames, changed.frames)


@faults
def test_an_evaluation_refuses_or_goes_on_with_what_it_read(tiny_path, tmp_path, fault):
    run = pretrain(tiny_path, tmp_path / "run", stages=("ser",))
    evaluation = RunEvaluation.open(run)
    want = evaluate(RunEvaluation.open(run), NearestNeighbours())
    fault(tiny_path)
    assert evaluate(evaluation, NearestNeighbours())["confusion"] == want["confusion"]
    with pytest.raises((DataError, ConfigError), match=str(tiny_path)):
        RunEvaluation.open(run)


@pytest.fixture
def bad_store(tiny_store):
    """The tiny store with an infinity in clip 5."""
    frames = tiny_store.frames.clone()
    frames[tiny_store.offsets[5], 7] = -torch.inf  # y of the third joint
    return replace(tiny_store, frames=frames)


NAMED = r"clip 5 \('clip 5'\) has a value that is not finite at frame 0, body 0, joint 'shoulder_center' \(-inf\)"


@pytest.mark.parametrize("save", [Store.save, save_with_stale_hash])
def test_a_number_that_is_none_is_named_before_the_first_step(crrl, bad_store, tmp_path, save):
    path = tmp_path / "bad.safetensors"
    save(bad_store, path)
    for skip in ([], ["--on-nonfinite", "skip"]):
        result = crrl("pretrain", "--data", path, "--out", "run", *skip)
        one_line_error(result, f"{path}: clip 5 ('clip 5')", "'shoulder_center' (-inf)", "--check", "--skip-bad")
        assert not (tmp_path / "run").exists()


def test_so_it_is_where_a_store_is_given_in_memory(bad_store, tmp_path):
    with pytest.raises(DataError, match=f"data set 'tiny': {NAMED}"):
        pretrain(bad_store, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_evaluation_and_embedding_name_it_too(crrl, bad_store, tiny_path, tmp_path):
    run = pretrain(tiny_path, tmp_path / "run", stages=("ser",))
    bad_store.save(tiny_path)
    for command in (["eval", "knn", run.path], ["embed", run.path, tiny_path], ["eval", "transfer", run.path, "--to"]):
        arguments = [*command, tiny_path] if command[-1] == "--to" else command
        one_line_error(crrl(*arguments), f"{tiny_path}: clip 5 ('clip 5')", "(-inf)")
    with pytest.raises(DataError, match=f"data set 'tiny': {NAMED}"):
        crrl_fast.load(run, device="cpu").encode_store(bad_store)


def test_a_run_whose_store_has_become_bad_is_kept(bad_store, tiny_path, tmp_path, monkeypatch):
    whole = pretrain(tiny_path, tmp_path / "whole")
    kept = shutil.copy(tiny_path, tmp_path / "kept")
    run = tmp_path / "run"
    interrupted(monkeypatch, tiny_path, run, 6)
    bad_store.save(tiny_path)
    with pytest.raises(DataError, match=f"{NAMED}.*run is saved up to cml epoch 2, step 2"):
        crrl_fast.pretrain(resume=run, quiet=True)
    shutil.move(kept, tiny_path)
    crrl_fast.pretrain(resume=run, quiet=True)
    assert_same_runs(run, whole.path)
