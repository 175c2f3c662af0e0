"""Several processes on gloo against one: the same losses, weights and queue, and an end to every failure."""

import copy
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError
from crrl_fast.training.distributed import ALONE, Ranks, joined_ranks
from tests.training.rank_worker import CASES, OWN_VIEWS, clips_of, train

ROOT = Path(__file__).parents[2]
SMALL = ["--set", "batch_size=5", "--set", "hidden_size=8", "--set", "queue_size=9", "--set", "dropout=0"]


def torchrun(processes: int, *arguments, **environment) -> subprocess.Popen:
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, "-m", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen, seconds: float = 120) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a launch, which must not outlive its time."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun ends its processes
        out, err = process.communicate(timeout=60)
        pytest.fail(f"still running after {seconds} s\n{out}\n{err}")
    return process.returncode, out, err


def own_lines(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("crrl-fast: ")]


def rank_process(launcher: subprocess.Popen, rank: int) -> int:
    """Return the process id of a rank that a launcher has started."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    for child in map(int, children):
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return child
    raise AssertionError(f"no rank {rank} among {children}")


@pytest.fixture
def pretrained(crrl):
    """Return a function that pretrains in this process, and returns what that printed."""

    def run(*arguments):
        code, out, err = crrl("pretrain", *arguments)
        assert code == 0, err
        return out

    return run


@pytest.fixture(scope="module", params=[2, 3])
def trained(request, tmp_path_factory):
    """Return what each rank found, and the store, after every case was trained by several processes."""
    from tests.conftest import tiny_store

    folder = tmp_path_factory.mktemp("ranks")
    path = folder / "tiny.safetensors"
    tiny_store.__wrapped__().save(path)
    code, _, err = finished(torchrun(request.param, "tests.training.rank_worker", path, folder))
    assert code == 0, err
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(request.param)], path


@pytest.mark.parametrize("case", CASES)
def test_several_processes_train_as_one(trained, case):
    """In float64, so that what remains is rounding: sums are taken in another order."""
    ranks, path = trained
    alone = train(case, clips_of(Store.open(path)))
    assert alone["steps"] == [5, 5, 5, 1] * 3
    for found in (rank[case] for rank in ranks):
        assert found["steps"] == alone["steps"]
        assert found["tensors"].keys() == alone["tensors"].keys()
        for name, want in alone["tensors"].items():
            torch.testing.assert_close(found["tensors"][name], want, rtol=1e-9, atol=1e-11, msg=name)
        for have, want in zip(found["losses"], copy.deepcopy(alone["losses"]), strict=True):
            accuracies = [row.pop("accuracy", 0.0) for row in (have, want)]
            assert accuracies[0] == pytest.approx(accuracies[1], abs=1e-7)  # the op counts in float32
            assert have == pytest.approx(want, rel=1e-10)
    for name, want in ranks[0][case]["tensors"].items():
        assert all(torch.equal(rank[case]["tensors"][name], want) for rank in ranks), name


def test_ranks_with_views_of_their_own_keep_the_same_weights_and_queues(trained):
    ranks, _ = trained
    first, *others = (rank[OWN_VIEWS] for rank in ranks)
    assert int(first["tensors"]["module.queue.filled"]) == 7
    assert not torch.equal(first["tensors"]["module.queue.keys"], first["tensors"]["module.coords_queue.keys"])
    assert all(math.isfinite(value) for row in first["losses"] for value in row.values())
    for other in others:
        assert other["losses"] == first["losses"]
        assert other["tensors"].keys() == first["tensors"].keys()
        assert all(torch.equal(other["tensors"][name], value) for name, value in first["tensors"].items())


def test_dropout_masks_differ_between_ranks(trained):
    ranks, _ = trained
    assert len({tuple(rank["noise"].tolist()) for rank in ranks}) == len(ranks)


def test_an_error_is_told_once(trained):
    ranks, path = trained
    told = sorted(rank["refused"] for rank in ranks)
    assert f"{path.parent}: exists and is not empty" in told[0]
    assert told[1:] == ["exit 2"] * (len(ranks) - 1)


def test_torchrun_gives_the_run_of_one_process(tiny_path, tmp_path, pretrained):
    """In float32, to its rounding; one rank writes and prints."""
    options = ["--data", tiny_path, "--stages", "cml,inf", "--set", "epochs=2", *SMALL]
    several = torchrun(2, "crrl_fast", "pretrain", *options, "--out", tmp_path / "several")
    alone = pretrained(*options, "--out", tmp_path / "alone")
    code, out, err = finished(several)
    assert code == 0, err
    assert "Warning" not in err
    assert "16 training clips, 8 test clips, 12 frames at most; cpu, 2 processes of 1 threads" in out
    assert len(out.splitlines()) == len(alone.splitlines()) == 6
    folders = tmp_path / "several", tmp_path / "alone"
    names = [sorted(file.name for file in folder.iterdir() if "tfevents" not in file.name) for folder in folders]
    assert names[0] == names[1]
    assert len(list(folders[0].glob("*tfevents*"))) == 1
    several_rows, rows = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in folders
    )
    for have, want in zip(several_rows, rows, strict=True):
        assert have.keys() == want.keys()
        assert (have["stage"], have["epoch"]) == (want["stage"], want["epoch"])
        for part in want.keys() - {"stage", "seconds", "clips_per_second"}:
            assert have[part] == pytest.approx(want[part], rel=1e-4), part
    for stage in ("cml", "inf"):
        have, want = (load_file(folder / f"{stage}.safetensors") for folder in folders)
        for name, value in want.items():
            torch.testing.assert_close(have[name], value, rtol=1e-4, atol=1e-5, msg=name)


def wait_for_epochs(launched, metrics, count):
    patience = time.monotonic() + 120
    while not (metrics.is_file() and metrics.read_text().count("\n") >= count):
        assert launched.poll() is None and time.monotonic() < patience, finished(launched, 1)
        time.sleep(0.05)


def test_what_was_stopped_goes_on_with_another_number_of_processes(tiny_path, tmp_path, pretrained):
    """Three lose one to SIGKILL; two go on and get SIGTERM; one goes on to the end, which is that of one alone."""
    options = ["--stages", "joint", "--set", "epochs=24", "--set", "lr=0.01", "--checkpoint-every", 2, *SMALL]
    several, alone = tmp_path / "several", tmp_path / "alone"
    metrics = several / "metrics.jsonl"

    launched = torchrun(3, "crrl_fast", "pretrain", *options, "--data", tiny_path, "--out", several)
    wait_for_epochs(launched, metrics, 3)
    os.kill(rank_process(launched, 1), signal.SIGKILL)
    code, _, err = finished(launched, 60)
    assert code != 0
    (line,) = own_lines(err)
    assert "lost contact with another process of this run" in line
    assert "--resume goes on from the last checkpoint" in line
    assert "crrl_fast/" not in err  # no traceback of ours

    reached = metrics.read_text().count("\n")
    launched = torchrun(2, "crrl_fast", "pretrain", "--resume", several)
    wait_for_epochs(launched, metrics, reached + 3)
    launched.terminate()
    code, out, err = finished(launched, 60)
    assert code != 0
    (line,) = own_lines(err)
    assert "stopped by SIGTERM and saved at joint" in line
    assert "processes 3 and now 2" in out

    assert "joint  24/24" in pretrained("--resume", several)
    pretrained(*options, "--data", tiny_path, "--out", alone)
    losses = [[json.loads(row)["loss"] for row in (folder / "metrics.jsonl").open()] for folder in (several, alone)]
    assert len(losses[0]) == 24
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    have, want = (load_file(folder / "joint.safetensors") for folder in (several, alone))
    for name, value in want.items():
        torch.testing.assert_close(have[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_parts_cover_a_batch_in_order():
    for size in (2, 3, 8):
        for clips in (1, 2, 5, 8, 17):
            shards = [Ranks(rank, size).shard(clips) for rank in range(size)]
            counted = [range(shard.start, shard.stop)[: shard.counts[rank]] for rank, shard in enumerate(shards)]
            assert [clip for part in counted for clip in part] == list(range(clips))
            assert sum(shard.share for shard in shards) == pytest.approx(1)
            assert all(shard.stop - shard.start >= 1 and shard.stop <= clips for shard in shards)
            assert all(len(part) in (clips // size, clips // size + 1) for part in counted)
    assert ALONE.shard(7) == (0, 7, 1.0, (7,))


def test_without_torchrun_a_process_is_alone(monkeypatch, cpu):
    monkeypatch.setenv("WORLD_SIZE", "4")  # of another launcher, which sets no rendezvous
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with joined_ranks(cpu) as ranks:
        assert ranks is ALONE


@pytest.mark.parametrize("text", ["soon", "0", "-3", "7200"])
def test_a_timeout_is_checked(monkeypatch, cpu, text):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CRRL_RANK_TIMEOUT", text)
    with pytest.raises(ConfigError, match=f"CRRL_RANK_TIMEOUT='{text}': give seconds"), joined_ranks(cpu):
        pass


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "lack_memory_for_batches",
            "a batch of 6 clips of .* batch_size=4 was measured to fit; .*run has no checkpoint",
        ),
        ("lack_the_store", r"tiny\.safetensors: no such file"),
        ("read_another_store", "data set 'tiny': the processes of this run read different stores"),
    ],
)
def test_a_fault_of_one_process_is_told_once_and_ends_all(tiny_path, tmp_path, fault, message):
    asked = ["--data", tiny_path, "--stages", "cml", "--out", tmp_path / "run", *SMALL, "--set", "batch_size=6"]
    launched = torchrun(2, "tests.training.faulty_rank", 1, fault, "pretrain", *asked)
    code, _, err = finished(launched, 100)
    assert code != 0
    (line,) = own_lines(err)
    assert re.search(message, line)
    assert "crrl_fast/" not in err


def test_a_number_that_is_none_is_told_once(tiny_store, tmp_path):
    tiny_store.frames[0, 0] = torch.nan
    tiny_store.save(tmp_path / "bad.safetensors")
    launched = torchrun(2, "crrl_fast", "pretrain", "--data", tmp_path / "bad.safetensors", "--out", tmp_path / "run")
    code, _, err = finished(launched, 100)
    assert code != 0
    (line,) = own_lines(err)
    assert "clip 0 ('clip 0') has a value that is not finite at frame 0" in line
    assert not (tmp_path / "run").exists()
