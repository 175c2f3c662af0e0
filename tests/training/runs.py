"""Small runs that are interrupted, and what two runs are compared by."""

import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import crrl_fast
from crrl_fast.training.loop import StageLoop
from crrl_fast.training.stopping import Interruption

TIMES = ("seconds", "clips_per_second")
SMALL = {"epochs": 3, "batch_size": 5, "hidden_size": 8, "queue_size": 9, "lr": 0.1}


def pretrain(data, out, **asked):
    """Pretrain quietly, on the CPU unless another device is asked for."""
    return crrl_fast.pretrain(data, out=out, **{"device": "cpu", "quiet": True, **SMALL, **asked})


def metrics(run: Path):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def weights(run: Path):
    return {path.stem: load_file(path) for path in sorted(run.glob("*.safetensors"))}


def assert_same_runs(have: Path, want: Path):
    """Expect the same bits in all weights, queues and metrics, apart from times."""
    assert metrics(have) == metrics(want)
    ours, theirs = weights(have), weights(want)
    assert ours.keys() == theirs.keys()
    for stage, tensors in theirs.items():
        assert ours[stage].keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert torch.equal(ours[stage][name], tensor), (stage, name)


def stop_after(monkeypatch, steps, number=signal.SIGTERM):
    """Send this process a signal while it takes step ``steps``, counted over all stages."""
    at_step(monkeypatch, steps, lambda: signal.raise_signal(number))


def at_step(monkeypatch, steps, work):
    """Do ``work`` while step ``steps`` is taken, counted over all stages."""
    taken, step = [], StageLoop._run_epoch

    def counted(self, on_step, on_skip):
        def count(clips):
            taken.append(clips)
            if len(taken) == steps:
                work()
            on_step(clips)

        return step(self, count, on_skip)

    monkeypatch.setattr(StageLoop, "_run_epoch", counted)


def interrupted(monkeypatch, data, out, steps, /, **asked):
    """Leave a run that was stopped after some steps; return the interruption."""
    with monkeypatch.context() as patch, pytest.raises(Interruption) as stopped:
        stop_after(patch, steps)
        pretrain(data, out, **asked)
    return stopped.value
