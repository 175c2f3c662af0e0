"""What goes wrong while a run is saved: nothing that was saved before is lost."""

import os
import resource
import shutil
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

import crrl_fast
from crrl_fast.errors import ConfigError, CrrlError
from crrl_fast.lock import LOCK_FILE, folder_lock
from crrl_fast.training.checkpoint import checkpoints_in, read_checkpoint, remove_checkpoint
from crrl_fast.training.log import MetricsLog
from tests.training.runs import assert_same_runs, at_step, interrupted, metrics, pretrain

OFTEN = {"checkpoint_every": 1, "keep": 100}


@contextmanager
def tmpfs(folder):
    """A file system of 700 KiB, which is about ten checkpoints."""
    command = ["mount", "-t", "tmpfs", "-o", "size=700k", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def file_size(limit):
    """Fail writes beyond so many bytes of any file, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_file_system_ends_the_run_and_keeps_its_checkpoints(tiny_path, tmp_path):
    asked = {"stages": ("cml",), "epochs": 12}
    whole = pretrain(tiny_path, tmp_path / "whole", **asked)
    disk = tmp_path / "disk"
    disk.mkdir()
    with tmpfs(disk):
        run = disk / "run"
        with pytest.raises(CrrlError, match=r"cannot be written \(No space left on device\): make room") as error:
            pretrain(tiny_path, run, **asked, **OFTEN)
        assert len(str(error.value).splitlines()) == 1
        assert f"{run} is saved up to cml epoch " in str(error.value)
        assert f"`crrl-fast pretrain --resume {run}` goes on from there" in str(error.value)
        saved = checkpoints_in(run)
        assert len(saved) >= 3
        for path in saved:
            read_checkpoint(path)
        assert not list(run.rglob("*.tmp"))
        with pytest.raises(CrrlError, match="cannot be written"):  # still full
            crrl_fast.pretrain(resume=run, quiet=True, **OFTEN)
        assert read_checkpoint(saved[-1]).state.epoch > 1
        for old in saved[:-1]:
            remove_checkpoint(old)
        crrl_fast.pretrain(resume=run, quiet=True, keep=1)
        assert_same_runs(run, whole.path)


def test_a_checkpoint_that_grows_too_large_leaves_the_others(tiny_path, tmp_path, monkeypatch):
    """The same without a file system of one's own: the limit lets the log grow, but no tensors."""
    whole = pretrain(tiny_path, tmp_path / "whole")
    run = tmp_path / "run"
    interrupted(monkeypatch, tiny_path, run, 6)
    before = {path.name: path.read_bytes() for path in (run / "checkpoints").iterdir()}
    with file_size(20_000), pytest.raises(CrrlError, match=r"s00000\.safetensors: cannot be written \(.*\)"):
        crrl_fast.pretrain(resume=run, quiet=True, **OFTEN)
    assert {path.name: path.read_bytes() for path in (run / "checkpoints").iterdir()} == before
    crrl_fast.pretrain(resume=run, quiet=True)
    assert_same_runs(run, whole.path)


def test_a_log_that_cannot_grow_ends_in_one_line(tmp_path):
    record = {"stage": "ser", "epoch": 1, "loss": 0.5, "note": 1.0}
    with MetricsLog(tmp_path) as log, file_size(200), pytest.raises(CrrlError, match=r"metrics\.jsonl: cannot be wri"):
        for _ in range(10):
            log.write(record)
    assert 1 <= len((tmp_path / "metrics.jsonl").read_text().split("\n")) <= 10


@pytest.fixture
def unprivileged():
    """Return a folder, with this process belonging to somebody whom permissions bind."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        for path in (folder, *folder.rglob("*")):
            if path.is_dir():
                path.chmod(0o777)
        shutil.rmtree(folder)


def test_a_run_folder_that_becomes_read_only(tiny_store, unprivileged, monkeypatch):
    tiny_store.save(unprivileged / "tiny.safetensors")
    data = unprivileged / "tiny.safetensors"
    whole = pretrain(data, unprivileged / "whole")
    run = unprivileged / "run"
    interrupted(monkeypatch, data, run, 6)
    saved = checkpoints_in(run)
    (run / "checkpoints").chmod(0o555)
    with pytest.raises(
        CrrlError, match=r"checkpoints/000002-.*: cannot be written \(Permission denied\): make .*--resume"
    ):
        crrl_fast.pretrain(resume=run, quiet=True, **OFTEN)
    assert checkpoints_in(run) == saved
    run.chmod(0o555)
    with pytest.raises(ConfigError, match="run: cannot be written to .Permission denied."):
        crrl_fast.pretrain(resume=run, quiet=True)
    run.chmod(0o777)
    (run / "checkpoints").chmod(0o777)
    crrl_fast.pretrain(resume=run, quiet=True)
    assert_same_runs(run, whole.path)
    assert len(metrics(run)) == 6


def test_a_lock_that_is_removed_under_a_run_is_held_anew(tiny_path, tmp_path, monkeypatch):
    run = tmp_path / "run"
    at_step(monkeypatch, 6, (run / LOCK_FILE).unlink)
    pretrain(tiny_path, run, stages=("ser",), checkpoint_every=1)
    assert len(metrics(run)) == 3
    assert not (run / LOCK_FILE).exists()


def test_a_second_job_that_removes_the_lock_ends_the_first(tiny_path, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with ExitStack() as second:

        def intrude():
            (run / LOCK_FILE).unlink()
            second.enter_context(folder_lock(run))

        at_step(monkeypatch, 6, intrude)
        with pytest.raises(ConfigError, match=r"run: \.lock was removed while this job wrote .* saves nothing more"):
            pretrain(tiny_path, run, stages=("ser",), checkpoint_every=1)
        (newest,) = checkpoints_in(run)
        assert read_checkpoint(newest).state.epoch == 2
        assert (run / LOCK_FILE).exists()
    monkeypatch.undo()
    crrl_fast.pretrain(resume=run, quiet=True)
    assert len(metrics(run)) == 3


def test_a_run_folder_that_is_renamed_under_its_run(tiny_path, tmp_path, monkeypatch):
    """What was saved stays together, and no second folder of the old name is made."""
    whole = pretrain(tiny_path, tmp_path / "whole")
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    with monkeypatch.context() as patch, pytest.raises(ConfigError, match="run: was deleted, renamed or cut off"):
        at_step(patch, 6, partial(run.rename, elsewhere))
        pretrain(tiny_path, run, checkpoint_every=1)
    assert not run.exists()
    crrl_fast.pretrain(resume=elsewhere, quiet=True)
    assert_same_runs(elsewhere, whole.path)
