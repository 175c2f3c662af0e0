"""The long run: its machinery on a short one, and whether planted leaks and drifts are found."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soak_record
import soak_worker
from soak_verdicts import BROKEN, KEPT, UNDECIDED, Change, judge_count, judge_drift, judge_memory, warm_up
from soak_worker import Sample, sample

ROOT = Path(__file__).parents[2]
EPOCH = {"stage": "cml", "epoch": 1, "seconds": 2.0, "clips_per_second": 336.0}
SIZES = ("hidden_size=8", "queue_size=8", "batch_size=8")


def soak(folder, *options):
    command = [sys.executable, "bench/soak.py", "--device", "cpu", "--out", folder / "run", *options]
    for size in SIZES:
        command += ["--set", size]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_a_short_run_is_sampled_judged_and_recorded(tiny_path, tmp_path):
    pytest.importorskip("matplotlib")
    files = {kind: tmp_path / f"soak.{kind}" for kind in ("json", "markdown", "plot")}
    options = [word for kind, file in files.items() for word in (f"--{kind}", file)]
    ran = soak(tmp_path, "--data", tiny_path, "--epochs", 32, *options)
    assert ran.returncode in (0, 1), ran.stderr  # so short a run on a busy machine may seem to drift
    record = json.loads(files["json"].read_text())
    assert (record["benchmark"], record["data"], record["threads"], record["epochs"]) == ("soak", "tiny", 1, 16)
    assert (record["warm_up"], record["block"], record["clips"]) == (4, 2, 16)
    assert [stage["stage"] for stage in record["stages"]] == ["cml", "inf"]
    assert record["recipe"]["hidden_size"] == 8
    samples = record["samples"]
    assert samples["stage"] == ["cml"] * 16 + ["inf"] * 16
    assert all(100 << 20 < uss <= rss for uss, rss in zip(samples["uss"], samples["rss"], strict=True))
    assert all(count > 2 for count in samples["descriptors"])
    assert samples["ended"] == sorted(samples["ended"])
    judged = {verdict["what"]: verdict["state"] for verdict in record["stages"][0]["verdicts"]}
    assert list(judged) == ["rss", "uss", "descriptors", "threads", "throughput"]
    assert judged["descriptors"] == KEPT
    run = tmp_path / "run"
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 32
    assert list(run.glob("events.out.tfevents.*"))
    assert len(list((run / "checkpoints").glob("*.pt"))) == 3
    table = files["markdown"].read_text()
    assert "32 epochs of 16 clips of tiny in cml,inf, the first 4 of each stage to warm up" in table
    assert "| open files |" in table
    assert files["plot"].read_bytes().startswith(b"\x89PNG")
    broken = [v for stage in record["stages"] for v in stage["verdicts"] if v["state"] != KEPT]
    assert ran.returncode == (1 if broken else 0)


def test_a_run_that_fails_is_not_judged(tmp_path):
    ran = soak(tmp_path, "--data", "nothing", "--epochs", 16)
    assert ran.returncode == 2
    assert "exit code 2: nothing is judged" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_memory_and_descriptors_that_are_kept_show_in_a_sample(tmp_path):
    before = sample(EPOCH, 1e9)
    kept = np.ones(8 << 20)  # 64 MiB, written to
    files = [(tmp_path / str(number)).open("w") for number in range(3)]
    after = sample(EPOCH, 1e9)
    for file in files:
        file.close()
    for name in ("rss", "pss", "uss"):
        assert 0.95 * kept.nbytes < getattr(after, name) - getattr(before, name) < 1.5 * kept.nbytes, name
    assert after.descriptors - before.descriptors == 3
    assert sample(EPOCH, 1e9).descriptors == before.descriptors
    assert (before.clips, before.stage, before.epoch) == (672, "cml", 1)


def stage_of(epochs=100, *, rss=lambda epoch: 0, descriptors=lambda epoch: 7, seconds=lambda epoch: 1.0, noise=0.0):
    """Return the samples of a stage; ``rss`` are bytes beyond 400 MiB, ``noise`` slows the machine by chance."""
    rng, now, samples = np.random.default_rng(0), 0.0, []
    for epoch in range(1, epochs + 1):
        slower = 1 + noise * rng.random()
        spent = seconds(epoch) * slower
        now += spent + 0.1 * slower
        size = (400 << 20) + int(rss(epoch)) + int(rng.integers(-1, 2) * 4096)
        samples.append(
            Sample(
                stage="cml",
                epoch=epoch,
                ended=now,
                clips=672,
                clips_per_second=672 / spent,
                gemm_flops=1e11 / slower,
                rss=size,
                pss=size - (50 << 20),
                uss=size - (100 << 20),
                peak=size + (60 << 20),
                descriptors=descriptors(epoch),
                threads=2,
            )
        )
    return samples


def states(samples):
    found = soak_record.judge_stage("cml", samples, warm_up(len(samples), 5), 5)
    return {verdict.what: verdict.state for verdict in found.verdicts}


ALL_KEPT = dict.fromkeys(("rss", "uss", "descriptors", "threads", "throughput"), KEPT)


def test_a_stage_that_holds_still_keeps_all_limits():
    assert states(stage_of()) == ALL_KEPT
    alternating = {"rss": lambda epoch: (epoch * 7919 % 5 == 0) * (30 << 20)}  # as a freed checkpoint's memory does
    assert states(stage_of(**alternating)) == ALL_KEPT
    warming = {"rss": lambda epoch: -min(0, epoch - 9) * 2**24, "descriptors": lambda epoch: 6 + (epoch > 3)}
    assert states(stage_of(**warming)) == ALL_KEPT


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ({"rss": lambda epoch: epoch * (64 << 10)}, {"rss", "uss"}),  # 64 KiB an epoch: 1.4 percent of 400 MiB
        ({"rss": lambda epoch: (epoch > 80) * (6 << 20)}, {"rss", "uss"}),  # a step that shows in the last fifth alone
        ({"descriptors": lambda epoch: 7 + epoch // 30}, {"descriptors"}),
        ({"seconds": lambda epoch: 1 + 0.001 * epoch}, {"throughput"}),  # a tenth slower at the end
        ({"seconds": lambda epoch: 1 - 0.001 * epoch}, {"throughput"}),
    ],
)
def test_planted_leaks_and_drifts_are_found(planted, found):
    assert states(stage_of(**planted)) == {**ALL_KEPT, **dict.fromkeys(found, BROKEN)}


def test_time_that_goes_into_probes_and_checkpoints_is_drift_too():
    samples = stage_of()
    late = [Sample(**{**vars(one), "ended": one.ended + 0.0005 * one.epoch**2}) for one in samples]
    assert states(late)["throughput"] == BROKEN
    assert soak_record.judge_stage("cml", late, 10, 5).changes["steps"].drift == pytest.approx(0)


def test_a_slower_machine_is_told_from_a_slower_run():
    rng = np.random.default_rng(1)
    machine = 1e11 * np.linspace(1, 0.8, 40) * (1 + 0.01 * rng.standard_normal(40))
    with_it = judge_drift("cml", machine * 3e-9, machine)
    assert with_it.state == KEPT
    assert with_it.note.endswith("that was the machine")
    alone = judge_drift("cml", machine * 3e-9, np.full(40, 1e11))
    assert alone.state == BROKEN
    assert alone.found == pytest.approx(-0.22, abs=0.03)


def test_noise_that_hides_a_drift_is_not_called_one():
    rates = (300, 420, 280, 450, 310, 290, 440, 360)
    assert Change.of(rates).drift == pytest.approx(0.2)
    assert judge_drift("cml", rates, np.full(8, 1e11)).state == UNDECIDED


def test_a_freeze_in_the_middle_is_no_drift():
    frozen = stage_of(seconds=lambda epoch: 200.0 if epoch == 50 else 1.0)
    assert states(frozen) == ALL_KEPT


def test_changes_of_a_series():
    change = Change.of(np.linspace(100, 110, 101))
    assert change.trend == pytest.approx(10 / 105)
    assert change.interval == pytest.approx((10 / 105, 10 / 105))
    assert (change.first.median, change.last.median) == pytest.approx((100.95, 109.05))
    assert change.growth == change.drift == change.trend
    falling = Change.of(np.linspace(110, 100, 101))
    assert falling.drift == pytest.approx(-10 / 105)
    assert judge_memory("cml", "rss", falling).state == KEPT


@pytest.mark.parametrize(("counts", "state"), [((7, 9, 7, 7, 7), KEPT), ((7, 7, 7, 7, 8), BROKEN), ((8, 7), KEPT)])
def test_counts_may_not_end_higher(counts, state):
    assert judge_count("cml", "descriptors", counts).state == state


def test_descriptors_that_each_stage_keeps_are_found_across_stages():
    first, second = (soak_record.judge_stage("cml", stage_of(descriptors=lambda _, n=n: n), 10, 5) for n in (7, 8))
    assert {v.what: v.state for v in soak_record.judge_across([first, second])} == {
        "descriptors": BROKEN, "threads": KEPT,
    }  # fmt: skip
    assert "across stages: descriptors broken: 1 more at the end" in soak_record.summary(
        soak_record.judge_across([first, second])
    )


@pytest.mark.parametrize(("epochs", "probe_every", "left_out"), [(250, 10, 25), (40, 5, 10), (16, 2, 4), (8, 5, 4)])
def test_warm_up_holds_two_probes_where_there_is_room(epochs, probe_every, left_out):
    assert warm_up(epochs, probe_every) == left_out


def test_the_product_beside_the_epochs_draws_before_the_run_is_seeded(tiny_path, tmp_path, monkeypatch, crrl):
    """A run that is watched trains as one that is not."""
    options = ["pretrain", "--data", tiny_path, "--stages", "cml", "--device", "cpu", "--set", "epochs=2"]
    options += [word for size in SIZES for word in ("--set", size)]
    code, _, err = crrl(*options, "--out", "plain")
    assert code == 0, err
    monkeypatch.setattr(sys, "argv", ["soak_worker.py", "samples.jsonl", "cpu", *map(str, options), "--out", "watched"])
    monkeypatch.setattr("crrl_fast.training.pretrain.MetricsLog", soak_worker.MetricsLog)
    with pytest.raises(SystemExit) as exit_:
        soak_worker.main()
    assert exit_.value.code == 0
    weights = [(tmp_path / run / "cml.safetensors").read_bytes() for run in ("plain", "watched")]
    assert weights[0] == weights[1]
    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == 2
