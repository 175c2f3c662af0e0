"""Checkpoint files: whole or absent, verified, and harmless whoever wrote them."""

import hashlib
import io
import os
import pickle
import subprocess
import zipfile
from dataclasses import replace

import pytest
import torch

from crrl_fast.errors import CheckpointError, ConfigError, CrrlError
from crrl_fast.training import checkpoint as checkpoints
from crrl_fast.training.checkpoint import (
    Checkpoint,
    checkpoints_in,
    read_checkpoint,
    remove_leftovers,
    write_checkpoint,
)
from crrl_fast.training.keeper import CheckpointKeeper, CheckpointPolicy
from crrl_fast.training.state import StageState

TENSORS = {"module.b": torch.randn(3, 4), "module.a": torch.tensor(5), "random.host": torch.get_rng_state()}
STATE = StageState(epoch=3, step=5, seconds=1.25, lr=0.1, losses=("loss", "distill"), tensors=TENSORS)
CHECKPOINT = Checkpoint("cml", STATE, {"seed": 0}, {"ser": "0" * 64}, '{"stage": "ser", "epoch": 1}\n')


def written(run, number=1):
    return write_checkpoint(run, number, CHECKPOINT)


def test_what_is_written_comes_back(tmp_path):
    path = written(tmp_path)
    folder = tmp_path / "checkpoints"
    name = "000001-cml-e003-s00005"
    assert sorted(file.name for file in folder.iterdir()) == [f"{name}.pt", f"{name}.safetensors", f"{name}.sha256"]
    have = read_checkpoint(path)
    assert replace(have, state=STATE) == CHECKPOINT
    assert replace(have.state, tensors=TENSORS) == STATE
    assert have.state.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(have.state.tensors[name], tensor) for name, tensor in TENSORS.items())
    assert torch.load(folder / f"{name}.pt", weights_only=True)["stage"] == "cml"


def test_the_hashes_are_those_of_sha256sum(tmp_path):
    path = written(tmp_path)
    subprocess.run(["sha256sum", "--check", path.name], cwd=path.parent, check=True, capture_output=True)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "empty"])
def test_damage_is_named(tmp_path, suffix, damage):
    path = written(tmp_path)
    file = path.with_suffix(suffix)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes({"truncated": content[:-1], "altered": content, "empty": b""}[damage])
    message = f"{file}: missing" if damage == "missing" else f"{file}: truncated or altered"
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"x", b"0" * 5000, b"abc  other.pt\n"])
def test_damaged_hashes_are_refused(tmp_path, content):
    path = written(tmp_path)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="000001-cml-e003-s00005"):
        read_checkpoint(path)


def hash_anew(path):
    """Make the hashes fit, as whoever forges a checkpoint would."""
    parts = [path.with_suffix(".safetensors"), path.with_suffix(".pt")]
    path.write_text("".join(f"{hashlib.sha256(part.read_bytes()).hexdigest()}  {part.name}\n" for part in parts))


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


class Large:
    def __reduce__(self):
        return bytearray, (1 << 40,)


def torch_file(values):
    file = io.BytesIO()
    torch.save(values, file)
    return file.getvalue()


def bomb():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps("0" * 100_000_000, protocol=2))
    return file.getvalue()


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (lambda path: torch_file(Touch(str(path))), "its pickle asks for GLOBAL, REDUCE.*nothing was run"),
        (lambda path: pickle.dumps(Touch(str(path))), "not a zip file"),
        (lambda path: torch_file(Large()), "asks for GLOBAL"),
        (lambda path: bomb(), "compressed"),
        (lambda path: torch_file({"format": 1}), "does not hold format, stage"),
        (lambda path: torch_file({"a": [1]}), "asks for"),
        (lambda path: torch_file(3), "does not hold"),
        (lambda path: b"PK\x05\x06" + b"\0" * 18, "not a usable checkpoint"),
    ],
)
def test_forged_values_run_and_allocate_nothing(tmp_path, forge, message):
    path = written(tmp_path)
    path.with_suffix(".pt").write_bytes(forge(tmp_path / "touched"))
    hash_anew(path)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 8, b"\xff" * 7 + b"\x7f" + b"{}", b"\x02" + b"\0" * 7 + b"[]", b"\x05" + b"\0" * 7 + b'{"a":'],
)
def test_forged_tensors_are_refused(tmp_path, content):
    path = written(tmp_path)
    path.with_suffix(".safetensors").write_bytes(content)
    hash_anew(path)
    with pytest.raises(CheckpointError, match="not a usable checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize("changes", [{"epoch": 0}, {"step": -1}])
def test_impossible_positions_are_refused(tmp_path, changes):
    path = write_checkpoint(tmp_path, 1, replace(CHECKPOINT, state=replace(STATE, epoch=1, step=0)))
    values = torch.load(path.with_suffix(".pt"), weights_only=True)
    torch.save({**values, **changes}, path.with_suffix(".pt"))
    hash_anew(path)
    with pytest.raises(CheckpointError, match="stands at epoch"):
        read_checkpoint(path)


def test_files_of_another_format_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_FORMAT", 2)
    path = written(tmp_path)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="of format 2, this version reads 1"):
        read_checkpoint(path)


def test_a_write_that_fails_leaves_nothing_of_itself(tmp_path, monkeypatch):
    first = written(tmp_path)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for function in ("write_weights", "write_text"):
        monkeypatch.setattr(checkpoints, function, full)
        with pytest.raises((CrrlError, OSError), match="No space left"):
            written(tmp_path, 2)
        monkeypatch.undo()
        assert {file.stem for file in (tmp_path / "checkpoints").iterdir()} == {first.stem}
        assert read_checkpoint(first).stage == "cml"


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    whole, torn = written(tmp_path), written(tmp_path, 2)
    torn.unlink()
    (tmp_path / "checkpoints/.000003-cml-e003-s00006.pt.77.tmp").write_text("x")
    (tmp_path / ".config.json.77.tmp").write_text("x")
    (tmp_path / "checkpoints/notes.pt").write_text("the user's own")
    assert checkpoints_in(tmp_path) == [whole]
    remove_leftovers(tmp_path)
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*(whole.with_suffix(suffix).name for suffix in (".pt", ".safetensors", ".sha256")), "notes.pt"}


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_are_kept(tmp_path, keep):
    keeper = CheckpointKeeper(tmp_path, CheckpointPolicy(keep=keep))
    paths = [keeper.save(CHECKPOINT) for _ in range(5)]
    assert [path.name[:6] for path in paths] == [f"{number:06}" for number in range(1, 6)]
    assert checkpoints_in(tmp_path) == paths[-keep:]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 3 * keep


def test_when_a_checkpoint_is_due(tmp_path):
    now = [0.0]
    keeper = CheckpointKeeper(tmp_path, CheckpointPolicy(every=4, minutes=2), clock=lambda: now[0])
    assert [epoch for epoch in range(1, 11) if keeper.is_due_after_epoch(epoch, 10)] == [4, 8, 10]
    now[0] = 119.0
    assert not keeper.is_due_after_step()
    now[0] = 120.0
    assert keeper.is_due_after_step()
    assert keeper.is_due_after_epoch(1, 10)
    keeper.save(CHECKPOINT)
    assert not keeper.is_due_after_step()
    never = CheckpointKeeper(tmp_path, CheckpointPolicy(every=0, minutes=0), clock=lambda: now[0])
    now[0] = 1e9
    assert not never.is_due_after_step()
    assert [epoch for epoch in range(1, 11) if never.is_due_after_epoch(epoch, 10)] == [10]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"every": -1}, "checkpoint_every must be at least 0"),
        ({"minutes": float("nan")}, "checkpoint_minutes must be at least 0"),
        ({"keep": 0}, "keep must be at least 1"),
    ],
)
def test_impossible_policies(values, message):
    with pytest.raises(ConfigError, match=message):
        CheckpointPolicy(**values)
