import math

import pytest
import torch
from torch import nn

import crrl_fast
from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.training.checkpoint import checkpoints_in, read_checkpoint
from crrl_fast.training.loop import StageLoop
from crrl_fast.training.schedule import Schedule
from tests.training.runs import assert_same_runs, interrupted, metrics, pretrain


def rates(recipe, clips=10):
    schedule = Schedule(recipe, clips)
    steps = range(recipe.steps_per_epoch(clips))
    return [schedule.lr(epoch, step) for epoch in range(1, recipe.epochs_on(clips) + 1) for step in steps]


def test_by_default_the_rate_decays_after_milestones_and_is_else_the_same():
    recipe = Recipe(epochs=5, batch_size=4, lr=0.3, lr_milestones=(1, 3), lr_decay=0.1)
    assert rates(recipe) == [0.3 * 0.1**decays for decays in (0, 1, 1, 2, 2) for _ in range(3)]
    assert Schedule(recipe, 10).lr(9, 0) == 0.3 * 0.1**2


def test_cosine_falls_with_every_step_to_zero():
    recipe = Recipe(epochs=4, batch_size=4, lr=0.2, lr_schedule="cosine", lr_milestones=(1,))
    assert rates(recipe) == pytest.approx([0.1 * (1 + math.cos(math.pi * step / 12)) for step in range(12)])
    assert rates(recipe)[0] == 0.2
    assert [Schedule(recipe, 10).lr(*after) for after in ((4, 3), (5, 0), (7, 2))] == [0.0, 0.0, 0.0]


def test_cosine_is_what_torch_schedules():
    recipe = Recipe(steps=20, batch_size=1, lr=0.2, lr_schedule="cosine")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    expected = []
    for _ in range(20):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates(recipe) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["milestones", "cosine"])
def test_a_warm_up_rises_linearly_to_where_the_schedule_begins(schedule):
    recipe = Recipe(epochs=4, batch_size=4, lr=0.2, lr_schedule=schedule, lr_milestones=(2,), warmup=0.25)
    found = rates(recipe)
    assert found[:4] == pytest.approx([0.05, 0.1, 0.15, 0.2])
    if schedule == "milestones":
        assert found[4:] == pytest.approx([0.2] * 2 + [0.1] * 6)
    else:
        assert found[3:] == pytest.approx([0.1 * (1 + math.cos(math.pi * step / 9)) for step in range(9)])


def test_milestones_within_a_warm_up_hold():
    recipe = Recipe(epochs=2, batch_size=5, lr=1.0, lr_milestones=(1,), warmup=0.75)
    assert rates(recipe) == pytest.approx([0.25, 0.5, 0.375, 0.5])


@pytest.mark.parametrize("schedule", ["milestones", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 1e-6, 0.5, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_every_step_trains(schedule, warmup, steps):
    found = rates(Recipe(steps=steps, batch_size=4, lr=0.2, lr_schedule=schedule, warmup=warmup))
    assert len(found) == math.ceil(steps / 3) * 3
    assert all(0 < rate <= 0.2 for rate in found)


class MeanPose(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(60, dtype=torch.float64))

    def forward(self, batch):
        return {"loss": (self.mean - batch.coords[:, 0]).square().sum(dim=1).mean()}


RECIPE = Recipe(epochs=3, batch_size=6, lr=0.1, lr_schedule="cosine", warmup=0.3)


def test_each_step_is_taken_at_its_rate(tiny_store):
    recipe = RECIPE.with_overrides({"sgd_momentum": 0, "weight_decay": 0, "clip_grad_norm": 0})
    clips = ResidentClips(tiny_store, torch.arange(16), tiny_store.frames.double())
    module, records = MeanPose(), []
    loop = StageLoop("mean", module, clips, recipe, torch.Generator().manual_seed(0))
    loop.run(on_step=lambda _: None, on_epoch=records.append)
    generator, mean, expected = torch.Generator().manual_seed(0), torch.zeros(60).double(), iter(rates(recipe, 16))
    for _ in range(3):
        for position, _ in clips.shuffled(6, generator):
            mean = mean - next(expected) * 2 * (mean - clips.batch(position).coords[:, 0]).mean(dim=0)
    torch.testing.assert_close(module.mean.detach(), mean)
    assert [record["lr"] for record in records] == rates(recipe, 16)[2::3]  # of the last step


@pytest.mark.parametrize("steps", [2, 6, 14])
def test_a_run_with_a_schedule_of_steps_goes_on_bit_by_bit(tiny_path, tmp_path, monkeypatch, steps):
    asked = {"lr_schedule": "cosine", "warmup": 0.2}
    whole = pretrain(tiny_path, tmp_path / "whole", **asked)
    run = tmp_path / "run"
    interrupted(monkeypatch, tiny_path, run, steps, **asked)
    state = read_checkpoint(checkpoints_in(run)[-1]).state
    schedule = Schedule(whole.config.recipe, 16)
    assert state.lr == schedule.lr(state.epoch, state.step) != schedule.lr(state.epoch, state.step - 1)
    crrl_fast.pretrain(resume=run, quiet=True)
    assert_same_runs(run, whole.path)
    assert metrics(run)[2]["lr"] == schedule.lr(3, 3) < 0.02
