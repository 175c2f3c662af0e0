import io
import itertools
import json
from dataclasses import asdict

import pytest
import torch
from rich.console import Console

from crrl_fast.benchmark import harness, markdown, render, run_ops_benchmark
from crrl_fast.benchmark.cases import motion_diff as motion_diff_cases
from crrl_fast.benchmark.harness import Case, Contender, WrongResultError, measure, relative_error
from crrl_fast.benchmark.record import Spread
from crrl_fast.errors import CrrlError

CPU = torch.device("cpu")
TRUTH = (torch.ones(3, dtype=torch.float64),)


@pytest.fixture(autouse=True)
def short_samples(monkeypatch):
    monkeypatch.setattr(harness, "SAMPLE_SECONDS", 0.0)


def case(*contenders: Contender) -> Case:
    return Case("op", "input", contenders, lambda: TRUTH, tolerance=1e-6)


def constant(value: float) -> Contender:
    return Contender("constant", lambda: (torch.full((3,), value),))


@pytest.mark.parametrize("value", [1.001, float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 1])
def test_wrong_results_are_not_timed(value, place):
    contenders = [constant(1.0), constant(1.0)]
    contenders[place] = constant(value)
    with pytest.raises(WrongResultError, match="op, input: constant is off by"):
        measure(case(*contenders), CPU, rounds=1)


def test_a_yardstick_need_not_compute_the_result():
    record = measure(case(constant(1.0), Contender("copy", lambda: (), computes_result=False)), CPU, rounds=2)
    assert [m.error for m in record.measurements] == [0.0, None]


def test_rounds_are_interleaved_and_start_elsewhere_each_time():
    calls = []

    def logged(name):
        return Contender(name, lambda: (calls.append(name), TRUTH)[1])

    measure(case(logged("a"), logged("b"), logged("c")), CPU, rounds=3)
    assert "".join(calls[-9:]) == "abcbcacab"


def test_speedup_is_taken_round_by_round(monkeypatch):
    # Both slow down together in the second and third round: the ratio does not see it.
    times = {"ours": iter([9.0, 1.0, 10.0, 100.0]), "theirs": iter([9.0, 2.0, 20.0, 200.0])}
    monkeypatch.setattr(harness, "_sample", lambda contender, device, repeats: next(times[contender.name]))
    record = measure(case(Contender("ours", lambda: TRUTH), Contender("theirs", lambda: TRUTH)), CPU, rounds=3)
    ours, theirs = record.measurements
    assert ours.seconds.median == 10
    assert theirs.seconds.median == 20
    assert theirs.speedup == Spread(2.0, 2.0, 2.0)


def test_relative_error_is_the_worst_of_all_outputs():
    truth = (torch.tensor([4.0]).double(), torch.tensor([]).double(), torch.tensor([-2.0, 0.0]).double())
    assert relative_error((torch.tensor([4.0]), torch.tensor([]), torch.tensor([-2.0, 0.5])), truth) == 0.25
    for outputs in itertools.permutations((torch.tensor([1.0]), torch.tensor([torch.nan]))):
        assert relative_error(outputs, (torch.ones(1).double(), torch.ones(1).double())) != 0


def test_motion_diff_is_measured_beside_its_baselines(monkeypatch):
    monkeypatch.setattr(motion_diff_cases, "TRAINING_BATCH", (3, 5))
    monkeypatch.setattr(motion_diff_cases, "LARGE_BATCH", {"cpu": (4, 6)})
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **options: compiled(f, **{**options, "backend": "eager"}))
    seen = []
    record = run_ops_benchmark("cpu", rounds=2, on_case=seen.append)
    assert tuple(seen) == record.cases
    assert {case.op for case in record.cases} == {"motion_diff"}
    for measured in record.cases:
        names = [m.name for m in measured.measurements]
        assert names == ["ours", "PyTorch eager", "torch.compile", "copy of the bytes"]
        assert all(m.error is not None and m.error <= measured.tolerance for m in measured.measurements[:3])

    loaded = json.loads(json.dumps(asdict(record)))
    assert loaded["versions"]["torch"] == torch.__version__
    assert "commit" in loaded["versions"]
    assert loaded["threads"] == torch.get_num_threads()
    assert len(loaded["cases"]) == len(record.cases)

    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(render(record))
    for text in (console.export_text(), markdown(record)):
        assert record.device_name in text
        assert "torch.compile" in text
        assert "motion_diff forward (3, 5, 150) bfloat16 ragged" in text


def test_what_cannot_be_measured_is_a_users_error():
    with pytest.raises(CrrlError, match="unknown op 'x'; there are motion_diff"):
        run_ops_benchmark("cpu", ops=["x"])
    with pytest.raises(CrrlError, match="no compiled ops for xpu"):
        run_ops_benchmark("xpu")


def test_spread_of_samples():
    assert Spread.of([float(value) for value in range(11)]) == Spread(5.0, 1.0, 9.0)
