import statistics

import pytest
import torch

from crrl_fast.benchmark.record import Spread
from crrl_fast.benchmark.train import speed
from crrl_fast.benchmark.train.contenders import Contender
from crrl_fast.benchmark.train.flops import step_flops
from crrl_fast.benchmark.train.pipeline import length, pipeline
from crrl_fast.benchmark.train.plan import WARM_UP, Plan
from crrl_fast.benchmark.train.record import OURS, OURS_BF16, STOCK, Preparation
from crrl_fast.benchmark.train.speed import StageTimes, measure_stage
from crrl_fast.errors import ConfigError, TrainingError

GEMM = {torch.float32: lambda: 100e9, torch.bfloat16: lambda: 400e9}


def fake(name, products, calls):
    def step():
        calls.append(name)
        return 1.0

    return lambda: Contender(name, products, step)


@pytest.fixture
def fakes():
    calls = []
    products = {STOCK: torch.float32, OURS: torch.float32, OURS_BF16: torch.bfloat16}
    return calls, {name: fake(name, dtype, calls) for name, dtype in products.items()}


def test_all_take_turns_and_another_starts_each_round(load, plan, fakes):
    calls, builders = fakes
    measure_stage("cml", load, builders, GEMM, plan)
    untimed = 3 * (WARM_UP + 1) + 3 * WARM_UP  # for the memory, and for the clock
    turns = calls[untimed:]
    first = [STOCK] * 2 + [OURS] * 2 + [OURS_BF16] * 2
    assert turns == first + first[2:] + first[:2]


def test_figures_are_taken_round_by_round(load, plan, fakes, monkeypatch):
    # All slow down tenfold in the second round: neither the ratio nor the share of a product beside it sees that.
    rounds = {STOCK: [4.0, 40.0], OURS: [2.0, 20.0], OURS_BF16: [1.0, 10.0]}
    turns = {name: iter(seconds) for name, seconds in rounds.items()}
    rates = {torch.float32: iter([1e5, 1e4]), torch.bfloat16: iter([4e5, 4e4])}
    monkeypatch.setattr(speed, "timed", lambda run, device: (run(), next(turns[run.func.__self__.name])))
    gemm = {dtype: lambda rate=rate: next(rate) for dtype, rate in rates.items()}
    record, times = measure_stage("cml", load, fakes[1], gemm, plan)
    stock, ours, bf16 = record.contenders
    assert [found.ratio for found in record.contenders] == [Spread(r, r, r) for r in (1.0, 2.0, 4.0)]
    assert stock.clips_per_second == Spread.of([4 / 2.0, 4 / 20.0])  # a batch of 4; a round is 2 steps
    assert times.seconds[OURS] == [1.0, 10.0]
    work = [
        statistics.mean(step_flops("cml", load.ragged(b), load.width, plan.recipe) for b in plan.batches_of_round(turn))
        for turn in range(2)
    ]
    assert ours.gemm_share == Spread.of([work[0] / 1.0 / 1e5, work[1] / 10.0 / 1e4])
    assert bf16.gemm_share == Spread.of([work[0] / 0.5 / 4e5, work[1] / 5.0 / 4e4])
    assert record.gflop_per_clip == pytest.approx(statistics.mean(work) / 4 / 1e9)


@pytest.mark.parametrize("stage", ["ser", "cml", "inf"])
def test_real_contenders_are_measured(build, load, plan, stage):
    record, _ = measure_stage(stage, load, build(stage), GEMM, plan)
    assert [found.name for found in record.contenders] == [STOCK, OURS, OURS_BF16]
    for found in record.contenders:
        assert found.clips_per_second.p10 > 0
        assert found.gemm_share.median > 0
        # At least the clip's coordinates and the outputs of the encoder's two layers are there at once.
        frames = load.ragged(WARM_UP).frames
        assert found.step_bytes > 4 * frames * (60 + 2 * 16)


def test_the_memory_of_a_step_is_that_of_the_step(load, plan):
    held = []

    def build():
        def step():
            held.clear()
            held.append(torch.ones(1 << 16))  # replaces the one of the step before
            torch.ones(1 << 17)
            return 1.0

        return Contender(STOCK, torch.float32, step)

    record, _ = measure_stage("cml", load, {STOCK: build}, GEMM, plan)
    assert record.contenders[0].step_bytes == 4 << 17


def test_a_loss_that_is_not_finite_ends_the_run():
    contender = Contender("ours", torch.float32, iter([1.0, torch.tensor(float("nan"))]).__next__)
    with pytest.raises(TrainingError, match="ours: a loss is not finite"):
        contender.run(2)


def test_the_pipeline_is_preparation_and_all_epochs_of_both_stages(plan):
    recipe = plan.recipe.with_overrides({"epochs": 10, "lr_milestones": "2,3"})
    times = {}
    for stage, seconds in {"cml": (2.0, 4.0), "inf": (4.0, 8.0), "ser": (9.0, 9.0)}.items():
        times[stage] = StageTimes([STOCK, OURS], [])
        times[stage].seconds[STOCK] += seconds
        times[stage].seconds[OURS] += [s / 2 for s in seconds]
    preparation = [Preparation(STOCK, {"a": 30.0}, 0), Preparation(OURS, {"a": 20.0, "b": 40.0}, 0)]
    stock, ours = pipeline(times, preparation, clips=100, recipe=recipe)
    # 100 clips in batches of 4 are 25 steps an epoch, of 10 epochs.
    assert stock.seconds == Spread.of([30 + 250 * 6, 30 + 250 * 12])
    assert ours.seconds == Spread.of([60 + 250 * 3, 60 + 250 * 6])
    assert ours.clips_per_second == Spread.of([2000 / 810, 2000 / 1560])
    assert ours.ratio == Spread.of([1530 / 810, 3030 / 1560])
    assert pipeline(times, preparation, clips=100, recipe=recipe.with_overrides({"steps": 249})) == (stock, ours)
    del times["inf"]
    assert pipeline(times, preparation, clips=100, recipe=recipe) == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stages": ("cml", "x")}, "unknown stage 'x': choose from ser, cml, inf"),
        ({"stages": ("cml", "cml")}, "name each stage once"),
        ({"stages": ()}, "name each stage once"),
        ({"rounds": 0}, "--rounds must be at least 1, got 0"),
        ({"steps": 0}, "--steps must be at least 1"),
        ({"curve_steps": -1}, "--curve-steps must be at least 0"),
    ],
)
def test_what_cannot_be_measured_is_a_users_error(fields, message):
    with pytest.raises(ConfigError, match=message):
        Plan(torch.device("cpu"), **fields)


def test_the_length_of_a_stage_in_words():
    assert length({"epochs": 60}) == length({"epochs": 60, "steps": 0}) == "60 epochs"
    assert length({"epochs": 60, "steps": 900}) == "900 steps rounded up to whole epochs"
