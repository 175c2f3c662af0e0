import itertools

import pytest
import torch

from crrl_fast.benchmark import harness
from crrl_fast.benchmark.harness import Case, Contender, WrongResultError, measure, relative_error
from crrl_fast.benchmark.record import Spread

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


def test_a_contender_may_have_a_truth_of_its_own():
    twos = torch.full((3,), 2.0)
    contenders = (constant(1.0), Contender("twice", lambda: (twos,), truth=lambda: (twos.double(),), note="twofold"))
    record = measure(case(*contenders), CPU, rounds=1)
    assert [(m.error, m.note) for m in record.measurements] == [(0.0, ""), (0.0, "twofold")]


def test_memory_that_is_not_torchs_is_not_counted():
    array = Contender("NumPy", lambda: (), computes_result=False, is_torch=False)
    record = measure(case(constant(1.0), array), CPU, rounds=1)
    assert [m.extra_bytes for m in record.measurements] == [12, None]


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


@pytest.mark.parametrize(("asked", "seconds", "rounds"), [(30, 0.5, 30), (30, 1.0, 20), (30, 5.0, 10), (3, 5.0, 3)])
def test_slow_cases_get_fewer_rounds(monkeypatch, asked, seconds, rounds):
    monkeypatch.setattr(harness, "_sample", lambda contender, device, repeats: seconds / 2)
    record = measure(case(constant(1.0), constant(1.0)), CPU, rounds=asked)
    assert record.rounds == rounds


def test_relative_error_is_the_worst_of_all_outputs():
    truth = (torch.tensor([4.0]).double(), torch.tensor([]).double(), torch.tensor([-2.0, 0.0]).double())
    assert relative_error((torch.tensor([4.0]), torch.tensor([]), torch.tensor([-2.0, 0.5])), truth) == 0.25
    for outputs in itertools.permutations((torch.tensor([1.0]), torch.tensor([torch.nan]))):
        assert relative_error(outputs, (torch.ones(1).double(), torch.ones(1).double())) != 0


def test_spread_of_samples():
    assert Spread.of([float(value) for value in range(11)]) == Spread(5.0, 1.0, 9.0)
