"""The baseline does what the trainer does, by other means."""

from dataclasses import replace

import pytest
import torch

from crrl_fast.benchmark.train import ours
from crrl_fast.benchmark.train.contenders import initial_module, our_contender, stock_contender
from crrl_fast.benchmark.train.host import HostClips, collate
from crrl_fast.benchmark.train.preparation import prepare
from crrl_fast.benchmark.train.stock import Contrast, Encoder, StockTraining
from crrl_fast.benchmark.train.workload import workload
from crrl_fast.errors import ConfigError


def test_host_arrays_hold_every_clip_four_times(tiny_store):
    index = torch.tensor([1, 0, 5])
    data = HostClips(tiny_store, index)
    assert len(data) == 3
    assert data.lengths.tolist() == tiny_store.lengths[index].tolist()
    for position, clip in enumerate(index.tolist()):
        x = tiny_store.clip(clip).flatten(1)
        coords, reverse, velocity, velocity_reverse = data[position]
        assert torch.equal(coords, x)
        assert torch.equal(reverse, x.flip(0))
        assert torch.equal(velocity[:-1], x[1:] - x[:-1])
        assert not velocity[-1].any()
        assert torch.equal(velocity_reverse, velocity.flip(0))
    assert data.nbytes == 4 * 4 * 60 * int(data.lengths.sum())
    assert coords.data_ptr() != x.data_ptr()  # arrays of their own, as the release has them


def test_a_batch_goes_from_long_to_short_and_is_padded_with_zeros(tiny_store):
    data = HostClips(tiny_store, torch.arange(6))
    batch = collate([data[position] for position in range(6)])
    assert batch.frames == sorted(data.lengths.tolist(), reverse=True)
    assert batch.coords.shape == (6, max(batch.frames), 60)
    for row, frames in enumerate(batch.frames):
        for padded in batch[1:]:
            assert not padded[row, frames:].any()
        assert torch.equal(batch.coords[row, :frames].flip(0), batch.reverse[row, :frames])
        assert torch.equal(batch.velocity[row, :frames].flip(0), batch.velocity_reverse[row, :frames])


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("stage", ["ser", "cml", "inf"])
def test_stock_and_ours_take_the_same_steps_in_float64(stage, tiny_store, plan):
    recipe = plan.recipe.with_overrides({"dropout": 0.0})
    steps = 6
    load = workload("tiny", replace(tiny_store, frames=tiny_store.frames.double()), recipe, steps, seed=1)
    prepared = prepare(load, plan)
    module = initial_module(load, prepared, stage, recipe, seed=3).double()  # the queue is float32 of itself
    expected = stock_contender(load, prepared, stage, recipe, ours.weights_for_stock(module)).run(steps)
    losses = our_contender("ours", load, prepared, module, recipe).run(steps)
    assert losses == pytest.approx(expected, rel=1e-12, abs=0)
    assert len(set(losses)) == steps  # it trains


def test_weights_fit_the_baseline_and_nothing_is_left_out(load, prepared, plan):
    for stage in plan.stages:
        module = initial_module(load, prepared, stage, plan.recipe, seed=0)
        weights = ours.weights_for_stock(module)
        ours_count = sum(parameter.numel() for parameter in module.parameters())
        queue = weights.pop("queue").numel() if stage == "cml" else 0
        assert queue == (module.queue.keys.numel() if stage == "cml" else 0)
        assert sum(weight.numel() for weight in weights.values()) == ours_count
    first = next(iter(weights))
    with torch.no_grad():
        dict(module.state_dict())[first].add_(1)
    assert not torch.equal(weights[first], module.state_dict()[first])  # a copy


def test_the_queue_takes_keys_in_turn(plan):
    contrast = Contrast(60, plan.recipe)
    before = contrast.queue.clone()
    keys = torch.arange(2 * 4 * 16.0).view(2, 4, 16)
    contrast._enqueue(keys[0])
    assert torch.equal(contrast.queue[:, :4], keys[0].T)
    assert torch.equal(contrast.queue[:, 4:], before[:, 4:])
    contrast._enqueue(keys[1])
    contrast._enqueue(-keys[0])
    assert torch.equal(contrast.queue, torch.cat([-keys[0], keys[1]]).T)


def test_the_key_encoder_follows_without_a_gradient_and_the_key_mlp_stays(load, prepared, plan):
    module = initial_module(load, prepared, "cml", plan.recipe, seed=0)
    weights = ours.weights_for_stock(module)
    stage = Contrast(load.width, plan.recipe)
    stage.load_state_dict(weights)
    training = StockTraining(stage, plan.recipe)
    batch = collate([prepared.host[row] for row in load.rows[0].tolist()])
    training.step(batch)
    trained = {name: value.clone() for name, value in stage.state_dict().items()}
    training.step(batch)
    for name, value in stage.state_dict().items():
        if name.startswith("key_encoder."):
            query = trained[name.removeprefix("key_")]
            torch.testing.assert_close(value, 0.999 * trained[name] + 0.001 * query)
            assert not torch.equal(value, trained[name])
        if name.startswith("key_head."):
            assert torch.equal(value, weights[name])
    assert all(p.grad is None for p in [*stage.key_encoder.parameters(), *stage.key_head.parameters()])


def test_stock_does_what_the_release_can_do_only(plan):
    with pytest.raises(ConfigError, match="queue_size 10 is no multiple of batch_size 4"):
        Contrast(60, plan.recipe.with_overrides({"queue_size": 10}))
    with pytest.raises(ConfigError, match="trains with sgd: optimizer adamw has no baseline"):
        StockTraining(torch.nn.Linear(2, 2), plan.recipe.with_overrides({"optimizer": "adamw"}))
    with pytest.raises(ConfigError, match="key_mlp_momentum=false"):
        Contrast(60, plan.recipe.with_overrides({"key_mlp_momentum": True}))


def test_dropout_acts_in_training_only(plan):
    encoder = Encoder(6, plan.recipe.with_overrides({"dropout": 0.5}))
    x = torch.randn(2, 5, 6)
    encoder.train()
    assert not torch.equal(encoder.feature(x, [5, 3]), encoder.feature(x, [5, 3]))
    encoder.eval()
    assert torch.equal(encoder.feature(x, [5, 3]), encoder.feature(x, [5, 3]))
