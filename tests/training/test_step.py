import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from crrl_fast.config import OPTIMIZERS, Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.training.request import STAGES
from crrl_fast.training.stages import ContrastiveMotionLearner, InformationFuser, JointLearner, SequenceReconstructor
from crrl_fast.training.step import TrainingStep

RECIPE = Recipe(batch_size=6, lr=0.1, hidden_size=7, queue_size=9, dropout=0.0)


def stage_module(name, clips, recipe=RECIPE):
    torch.manual_seed(0)
    if name == "ser":
        return SequenceReconstructor(clips.width, recipe).double()
    if name == "cml":
        return ContrastiveMotionLearner(clips.width, recipe).double()
    if name == "joint":
        return JointLearner(clips.width, recipe).double()
    return InformationFuser(clips.width, recipe, torch.randn(len(clips), 2 * recipe.hidden_size)).double()


@pytest.fixture
def clips(tiny_store):
    return ResidentClips(tiny_store, torch.arange(24), tiny_store.frames.double())


@pytest.mark.parametrize("name", STAGES)
def test_padded_frames_change_neither_losses_nor_gradients(clips, name):
    position = torch.tensor([0, 1, 8, 17, 3])
    just = stage_module(name, clips)
    more = copy.deepcopy(just)
    losses = just(clips.batch(position))
    padded = more(clips.batch(position, clips.longest + 8))
    assert losses.keys() == padded.keys()
    for part, value in losses.items():
        torch.testing.assert_close(padded[part], value, rtol=1e-12, atol=0)
    losses["loss"].backward()
    padded["loss"].backward()
    compared = 0
    for want, have in zip(just.parameters(), more.parameters(), strict=True):
        assert (want.grad is None) == (have.grad is None)
        if want.grad is not None:
            assert want.grad.abs().max() > 0
            torch.testing.assert_close(have.grad, want.grad, rtol=0, atol=1e-12)
            compared += 1
    assert compared >= 10
    for want, have in zip(just.buffers(), more.buffers(), strict=True):
        torch.testing.assert_close(have, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", STAGES)
def test_what_a_step_writes_stays_where_it_is(clips, name, optimizer):
    """A captured step knows its tensors by their addresses."""
    module = stage_module(name, clips)
    step = TrainingStep(module, clips, RECIPE.with_overrides({"optimizer": optimizer}))

    def addresses():
        states = step.optimizer_state().values()
        own = [value for value in vars(step).values() if isinstance(value, torch.Tensor)]
        assert len(own) == 4  # positions, learning rate, row and losses
        assert len(states) >= 10
        return [tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers(), *states, *own)]

    step.begin_epoch(0.1)
    step(torch.arange(6), 12)
    before, weights = addresses(), copy.deepcopy(module.state_dict())
    step.begin_epoch(0.05)
    step(torch.arange(6, 12), 12)
    step(torch.arange(12, 15), 16)
    assert addresses() == before
    assert step._optimizer.param_groups[0]["lr"] is step._lr
    assert not torch.equal(module.state_dict()["encoder.gru.weight_hh_l0"], weights["encoder.gru.weight_hh_l0"])


class HostReads(TorchDispatchMode):
    """Collects the operations whose result the host must wait for."""

    def __init__(self):
        super().__init__()
        self.calls, self.reads = 0, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += 1
        name = function.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique2", "repeat_interleave"):
            self.reads.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", STAGES)
def test_a_step_reads_nothing_back(clips, name, optimizer):
    recipe = RECIPE.with_overrides({"optimizer": optimizer})
    step = TrainingStep(stage_module(name, clips), clips, recipe, skips=True)
    step.begin_epoch(0.1)
    step(torch.arange(6), 12)
    with HostReads() as host:
        step.begin_epoch(0.05)
        for position, frames in clips.shuffled(6, torch.Generator()):
            step.set_lr(0.03)
            step(position, frames)
    assert host.calls > 100
    assert host.reads == []
    with HostReads() as host:
        torch.ones(1).item()
    assert host.reads == ["_local_scalar_dense"]


class MeanPose(nn.Module):
    """Its loss is the squared distance of its parameter to the first frames' mean."""

    def __init__(self, width):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(width, dtype=torch.float64))

    def forward(self, batch):
        distance = (self.mean - batch.coords[:, 0].mean(dim=0)).square().sum()
        return {"loss": distance, "clips": torch.tensor(float(len(batch.lengths)))}


def test_losses_are_kept_step_by_step(clips):
    step = TrainingStep(MeanPose(60), clips, Recipe(batch_size=10))
    for shift in (0, 1):
        step.begin_epoch(0.0)
        batches = list(((torch.arange(24) + shift) % 24).split(10))
        for position in batches:
            step(position, clips.longest)
        losses = step.losses()
        assert list(losses) == ["loss", "clips"]
        assert losses["clips"].tolist() == [10, 10, 4]
        first = [clips.batch(position).coords[:, 0].mean(dim=0) for position in batches]
        torch.testing.assert_close(losses["loss"], torch.stack([pose.square().sum() for pose in first]))


def test_the_learning_rate_is_that_of_the_epoch(clips):
    module = MeanPose(60)
    step = TrainingStep(module, clips, Recipe(batch_size=24, sgd_momentum=0.0, weight_decay=0.0, clip_grad_norm=0.0))
    everyone = torch.arange(24)
    pose = clips.batch(everyone).coords[:, 0].mean(dim=0)
    step.begin_epoch(0.25)
    step(everyone, clips.longest)
    torch.testing.assert_close(module.mean.detach(), 0.5 * pose)
    step.begin_epoch(0.0)
    step(everyone, clips.longest)
    torch.testing.assert_close(module.mean.detach(), 0.5 * pose)
    step.begin_epoch(0.5)
    step(everyone, clips.longest)
    torch.testing.assert_close(module.mean.detach(), pose)
