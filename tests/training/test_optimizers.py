import pytest
import torch
from torch import nn

import crrl_fast
from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.errors import CheckpointError
from crrl_fast.training.checkpoint import checkpoints_in, read_checkpoint
from crrl_fast.training.loop import StageLoop
from crrl_fast.training.stages import SequenceReconstructor
from tests.training.runs import assert_same_runs, interrupted, pretrain

RECIPE = Recipe(epochs=3, batch_size=6, hidden_size=5, dropout=0.0, lr_milestones=(2,))


@pytest.fixture
def clips(tiny_store):
    return ResidentClips(tiny_store, torch.arange(16), tiny_store.frames.double())


def reconstructor(clips):
    torch.manual_seed(0)
    return SequenceReconstructor(clips.width, RECIPE).double()


def trained(clips, recipe):
    module = reconstructor(clips)
    loop = StageLoop("ser", module, clips, recipe, torch.Generator().manual_seed(0))
    loop.run(on_step=lambda _: None, on_epoch=lambda _: None)
    return module, loop.state()


def by_hand(clips, recipe, optimizer):
    """Return a module that a plain loop has trained."""
    module, generator = reconstructor(clips), torch.Generator().manual_seed(0)
    ours = optimizer([parameter for parameter in module.parameters() if parameter.requires_grad])
    for epoch in range(1, recipe.epochs + 1):
        for group in ours.param_groups:
            group["lr"] = recipe.lr * (0.5 if epoch > 2 else 1)
        for position, frames in clips.shuffled(recipe.batch_size, generator):
            ours.zero_grad()
            module(clips.batch(position, frames))["loss"].backward()
            nn.utils.clip_grad_norm_(module.parameters(), recipe.clip_grad_norm)
            ours.step()
    return module


def assert_equal(have, want, **tolerance):
    for (name, ours), theirs in zip(have.state_dict().items(), want.state_dict().values(), strict=True):
        if tolerance:
            torch.testing.assert_close(ours, theirs, msg=name, **tolerance)
        else:
            assert torch.equal(ours, theirs), name


def test_the_default_is_torchs_sgd_bit_for_bit(clips):
    module, _ = trained(clips, RECIPE)
    assert_equal(
        module, by_hand(clips, RECIPE, lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=1e-4, fused=True))
    )


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_is_torchs(clips, weight_decay):
    """Decoupled decay, the usual betas; torch's own loop over tensors rounds otherwise."""
    recipe = RECIPE.with_overrides({"optimizer": "adamw", "lr": 0.01, "weight_decay": weight_decay})
    module, state = trained(clips, recipe)
    want = by_hand(
        clips, recipe, lambda p: torch.optim.AdamW(p, betas=(0.9, 0.999), weight_decay=weight_decay, foreach=False)
    )
    assert_equal(module, want, rtol=1e-9, atol=1e-12)
    steps = state.part("step.")
    assert len(steps) == len(state.part("exp_avg.")) == len(state.part("exp_avg_sq.")) == len(list(module.parameters()))
    assert {float(step) for step in steps.values()} == {9.0}
    assert not state.part("momentum.")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stages", [("cml", "inf"), ("joint",)])
def test_a_run_with_adamw_goes_on_bit_by_bit(tiny_path, tmp_path, monkeypatch, stages, precision):
    asked = {"optimizer": "adamw", "lr": 0.01, "stages": stages, "precision": precision, "on_nonfinite": "skip"}
    asked |= {"lr_schedule": "cosine", "warmup": 0.2, "steps": 9}
    whole = pretrain(tiny_path, tmp_path / "whole", **asked)
    run = tmp_path / "run"
    interrupted(monkeypatch, tiny_path, run, 12 * len(stages) - 5, **asked)
    state = read_checkpoint(checkpoints_in(run)[-1]).state
    assert float(state.tensors["step.encoder.gru.weight_hh_l0"]) == 7
    assert state.tensors["exp_avg.encoder.gru.weight_hh_l0"].abs().max() > 0
    crrl_fast.pretrain(resume=run, quiet=True)
    assert_same_runs(run, whole.path)


def test_a_checkpoint_of_another_optimiser_is_refused(tiny_path, tmp_path, monkeypatch):
    run = tmp_path / "run"
    interrupted(monkeypatch, tiny_path, run, 3, stages=("ser",))
    with pytest.raises(CheckpointError, match="stage ser: the checkpoint does not fit .its optimiser is another"):
        crrl_fast.pretrain(resume=run, quiet=True, force=True, optimizer="adamw")
