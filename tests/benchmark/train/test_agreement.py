import pytest
import torch

from crrl_fast.benchmark.train import agreement, ours
from crrl_fast.benchmark.train.agreement import EPSILON, FACTOR, compare_curves, nudged, tolerance
from crrl_fast.benchmark.train.preparation import prepare
from crrl_fast.benchmark.train.record import CurveRecord
from crrl_fast.benchmark.train.render import disagreement
from crrl_fast.benchmark.train.workload import workload

STEPS = 12


@pytest.fixture
def compare(tiny_store, plan):
    """Return a function that compares a stage's curves."""
    load = workload("tiny", tiny_store, plan.recipe, STEPS, plan.seed)
    prepared = prepare(load, plan)
    return lambda stage: compare_curves(load, prepared, stage, plan)


@pytest.mark.parametrize("stage", ["ser", "cml", "inf"])
def test_ours_follows_stock(compare, stage):
    curve = compare(stage)
    assert curve.first_disagreement is None
    assert len(curve.stock) == len(curve.ours) == len(curve.rounding) == len(curve.tolerance) == STEPS
    assert len(set(curve.stock)) == STEPS
    assert curve.rounding != curve.stock  # the last bits do something, and not too much
    assert max(curve.tolerance) < 1e-3


def change_recipe(**fields):
    class Changed(ours.OurTraining):
        def __init__(self, module, clips, recipe):
            super().__init__(module, clips, recipe.with_overrides(fields))

    return Changed


class ForgetsAClip(ours.OurTraining):
    def step(self, position):
        return super().step(torch.cat([position[:1], position[:-1]]))


class ForgetsToZero(ours.OurTraining):
    def __init__(self, module, clips, recipe):
        super().__init__(module, clips, recipe)
        self._step._optimizer.zero_grad = lambda: None


WRONG = {
    "lr off by one percent": change_recipe(lr=0.05 * 1.01),
    "no momentum": change_recipe(sgd_momentum=0.0),
    "no clipping": change_recipe(clip_grad_norm=0.0),
    "bfloat16 products": change_recipe(precision="bf16"),
    "another batch": ForgetsAClip,
    "gradients that add up": ForgetsToZero,
}


# The gradients of this contrast are within the norm, so that clipping does nothing to them.
CAUGHT = [
    (stage, wrong) for stage in ("ser", "cml", "inf") for wrong in WRONG if (stage, wrong) != ("cml", "no clipping")
]


@pytest.mark.parametrize(("stage", "wrong"), CAUGHT)
def test_a_wrong_contender_is_caught(compare, monkeypatch, stage, wrong):
    monkeypatch.setattr(ours, "OurTraining", WRONG[wrong])
    curve = compare(stage)
    step = curve.first_disagreement
    assert step is not None
    assert step <= 4
    line = disagreement(curve)
    assert f"{stage} on tiny: the loss of step {step} is" in line
    assert "nothing was timed" in line


@pytest.mark.parametrize("field", ["temperature", "momentum"])
def test_a_wrong_contrast_is_caught(compare, monkeypatch, field):
    module = ours.stage_module

    def changed(stage, width, recipe, features):
        return module(stage, width, recipe.with_overrides({field: getattr(recipe, field) * 0.99}), features)

    monkeypatch.setattr(ours, "stage_module", changed)
    assert compare("cml").first_disagreement is not None


def test_dropout_and_low_precision_are_switched_off(tiny_store, plan, monkeypatch):
    seen = []
    build = agreement.our_contender

    def spy(name, load, prepared, module, recipe):
        seen.append((recipe.dropout, recipe.precision, module.encoder.gru.dropout))
        return build(name, load, prepared, module, recipe)

    monkeypatch.setattr(agreement, "our_contender", spy)
    load = workload("tiny", tiny_store, plan.recipe, 2, plan.seed)
    compare_curves(load, prepare(load, plan), "ser", plan)
    assert plan.recipe.dropout > 0
    assert seen == [(0.0, "fp32", 0.0)]


def test_the_tolerance_grows_with_rounding_and_never_shrinks():
    stock, rounding = [1.0, 2.0, 1.0, 4.0], [1.0, 2.0 + 2e-5, 1.0, 4.0 - 4e-3]
    expected = [FACTOR * EPSILON, FACTOR * 1e-5, FACTOR * 1e-5, FACTOR * 1e-3]
    assert tolerance(stock, rounding) == pytest.approx(expected)


@pytest.mark.parametrize("value", [1.1, float("nan"), float("inf")])
def test_a_loss_beyond_the_tolerance_or_no_number_disagrees(value):
    curve = CurveRecord("cml", "tiny", (1.0, 1.0, 1.0), (1.0, value, 1.0), (1.0, 1.0, 1.0), (1e-6,) * 3)
    assert curve.first_disagreement == 2


def test_nudged_numbers_differ_in_their_last_bit():
    x = torch.randn(1000)
    x[0] = 0
    y = nudged(x, torch.Generator().manual_seed(0))
    assert y[0] == 0
    assert (y[1:] != x[1:]).all()
    ulps = (y.view(torch.int32) - x.view(torch.int32)).abs()
    assert ulps.max() <= 2
    assert 0.4 < (y[1:].abs() > x[1:].abs()).double().mean() < 0.6
