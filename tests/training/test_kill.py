"""Runs that are killed at any moment, without warning, end as if nothing had happened."""

import multiprocessing
import os
import random
import signal
import time

import pytest

import crrl_fast
from tests.training.runs import SMALL, assert_same_runs, metrics

STAGES = ("ser", "cml", "inf", "joint")
ASKED = {**SMALL, "stages": STAGES, "probe_every": 2, "length_buckets": 2, "device": "cpu", "quiet": True}
EPOCHS = len(STAGES) * SMALL["epochs"]
# A checkpoint after nearly every step: kills hit the writing of checkpoints as well as what lies between them.
OFTEN = {"checkpoint_minutes": 1e-6, "checkpoint_every": 1}
# Twenty kills by default; CRRL_KILLED_RUNS=20 kills as many whole runs as often.
RUNS = int(os.environ.get("CRRL_KILLED_RUNS", "2"))
KILLS = 10


@pytest.fixture(scope="module")
def in_process():
    """Return a function that starts ``crrl_fast.pretrain`` in a process, for which all is imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["crrl_fast.training.pretrain", "tensorboard.summary.writer.record_writer", "torch._dynamo"]
    )

    def start(data, out, **asked):
        process = context.Process(target=crrl_fast.pretrain, args=(data,), kwargs={**ASKED, "out": out, **asked})
        process.start()
        return process

    return start


@pytest.fixture
def whole(tiny_path, tmp_path, in_process):
    """Return a run that was never interrupted."""
    process = in_process(tiny_path, tmp_path / "whole")
    process.join()
    assert process.exitcode == 0
    assert len(metrics(tmp_path / "whole")) == EPOCHS
    return tmp_path / "whole"


def epochs_logged(run):
    path = run / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize("number", range(RUNS))
def test_kills_change_no_bit(tiny_path, tmp_path, whole, in_process, number):
    """Each kill waits for one more epoch to be logged, and then for a random moment; every stage is hit."""
    moments, out = random.Random(number), tmp_path / "run-0"
    kills, hit = 0, set()
    while kills < KILLS or out.exists():
        process = in_process(tiny_path, out, resume="auto", **OFTEN)
        if kills < KILLS:
            logged = epochs_logged(out) if kills else -1  # the first kill waits for nothing
            while process.is_alive() and epochs_logged(out) <= logged:
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.03))
            process.kill()
        process.join()
        if process.exitcode == 0:
            assert_same_runs(out, whole)
            out = tmp_path / f"run-{kills}"
        else:
            assert process.exitcode == -signal.SIGKILL
            kills += 1
            hit.add(STAGES[min(epochs_logged(out), EPOCHS - 1) // SMALL["epochs"]])
    assert hit == set(STAGES)
