"""Steps whose loss or gradient is not finite: named, or skipped without a trace."""

import copy
import json
from dataclasses import replace

import pytest
import torch

import crrl_fast
from crrl_fast.config import OPTIMIZERS, Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.errors import ConfigError, TrainingError
from crrl_fast.run import RunFolder
from crrl_fast.training.checkpoint import checkpoints_in, read_checkpoint
from crrl_fast.training.loop import StageLoop
from crrl_fast.training.stages import ContrastiveMotionLearner, SequenceReconstructor
from crrl_fast.training.step import TrainingStep
from tests.training.runs import interrupted, metrics, pretrain

RECIPE = Recipe(epochs=2, batch_size=4, hidden_size=8, queue_size=9, lr=0.1)
BAD = 5


@pytest.fixture
def bad_clips(tiny_store):
    """Return 16 clips of which one has a NaN, as no store that is prepared has."""
    frames = tiny_store.frames.clone()
    frames[tiny_store.offsets[BAD]] = torch.nan
    return ResidentClips(replace(tiny_store, frames=frames), torch.arange(16), frames)


def contrast(clips):
    torch.manual_seed(0)
    return ContrastiveMotionLearner(clips.width, RECIPE)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("clip_grad_norm", [0.0, 5.0])
def test_a_skipped_step_leaves_weights_optimiser_and_queue(bad_clips, clip_grad_norm, optimizer):
    recipe = RECIPE.with_overrides({"clip_grad_norm": clip_grad_norm, "optimizer": optimizer})
    module = contrast(bad_clips)
    step = TrainingStep(module, bad_clips, recipe, skips=True)
    step.begin_epoch(0.1)
    step(torch.arange(4), 12)
    before = copy.deepcopy({**module.state_dict(), **step.optimizer_state()})
    step(torch.arange(4, 8), 12)
    after = {**module.state_dict(), **step.optimizer_state()}
    for name, value in before.items():
        if not name.startswith("key_encoder"):  # it has followed the query encoder by one more step
            assert torch.equal(after[name], value), name
        assert after[name].isfinite().all(), name
    step(torch.arange(8, 12), 12)
    assert step.losses()["loss"][:3].isfinite().tolist() == [True, False, True]
    assert not torch.equal(module.state_dict()["queue.keys"], before["queue.keys"])


def test_skipping_changes_nothing_where_all_is_finite(tiny_store):
    clips = ResidentClips(tiny_store, torch.arange(16), tiny_store.frames)
    results = []
    for skips in (0, 10):
        module = contrast(clips)
        loop = StageLoop("cml", module, clips, RECIPE, torch.Generator().manual_seed(0), skips=skips)
        records = []
        loop.run(on_step=lambda _: None, on_epoch=records.append)
        results.append((module.state_dict(), [record["loss"] for record in records]))
    assert results[0][1] == results[1][1]
    assert all(torch.equal(results[1][0][name], value) for name, value in results[0][0].items())


def test_skipped_steps_are_counted_and_left_out_of_the_means(bad_clips):
    loop = StageLoop("cml", contrast(bad_clips), bad_clips, RECIPE, torch.Generator().manual_seed(0), skips=1)
    records = []
    loop.run(on_step=lambda _: None, on_epoch=records.append)
    assert [record["skipped"] for record in records] == [1, 1]
    assert all(0 < record["loss"] < 10 for record in records)


def test_the_step_and_its_clips_are_named(bad_clips):
    torch.manual_seed(0)
    module = SequenceReconstructor(bad_clips.width, RECIPE)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0)).split(4)
    (step,) = (i for i, position in enumerate(order) if BAD in position.tolist())
    clips = ", ".join(f"'clip {i}'" for i in order[step].tolist())
    loop = StageLoop("ser", module, bad_clips, RECIPE, generator)
    with pytest.raises(TrainingError) as error:
        loop.run(on_step=lambda _: None, on_epoch=lambda _: None)
    assert f"ser: the loss or its gradient is not finite in epoch 1, step {step + 1} (clips {clips})" in str(
        error.value
    )


def test_more_than_the_bound_stop_all_the_same(bad_clips):
    recipe = RECIPE.with_overrides({"batch_size": 1})
    bad_clips._frames[:] = torch.nan
    loop = StageLoop("cml", contrast(bad_clips), bad_clips, recipe, torch.Generator(), skips=10)
    with pytest.raises(TrainingError, match="epoch 1, step 1 .* and in 15 later steps"):
        loop.run(on_step=lambda _: None, on_epoch=lambda _: None)


@pytest.mark.parametrize("often", [{}, {"checkpoint_minutes": 1e-6}])
def test_the_last_good_checkpoint_stays(tiny_path, tmp_path, monkeypatch, often):
    """From some step on, everything is wrong: no checkpoint of it is written, whenever one is due."""
    taken, forward = [], SequenceReconstructor.forward

    def diverge(self, batch):
        taken.append(None)
        losses = forward(self, batch)
        return {**losses, "loss": losses["loss"] * torch.nan} if len(taken) > 10 else losses

    asked = {"stages": ("ser",), "epochs": 5, "checkpoint_every": 1, "probe_every": 0}
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(SequenceReconstructor, "forward", diverge)
        with pytest.raises(TrainingError, match="ser: the loss or its gradient is not finite in epoch 3, step 3 "):
            pretrain(tiny_path, run, **asked, **often)
    newest = read_checkpoint(checkpoints_in(run)[-1])
    assert (newest.state.epoch, newest.state.step) == ((3, 2) if often else (3, 0))
    crrl_fast.pretrain(resume=run, quiet=True)
    assert [row["epoch"] for row in metrics(run)] == [1, 2, 3, 4, 5]


def test_weights_that_overflow_are_not_saved(tiny_path, tmp_path):
    """The gradient of the last step is finite, and so is its loss; what the step makes of the weights is not."""
    asked = {"stages": ("ser",), "epochs": 1, "batch_size": 16, "lr": 1e39, "clip_grad_norm": 0.0}
    with pytest.raises(
        TrainingError, match=r"ser: encoder.* is not finite after epoch 1, step 1 .clips .*: lower lr \(now 1e\+39\)"
    ):
        pretrain(tiny_path, tmp_path / "run", **asked)
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_a_run_that_skips_says_so(tiny_store, tmp_path, monkeypatch, capsys):
    taken, forward = [], SequenceReconstructor.forward

    def stumble(self, batch):
        taken.append(None)
        losses = forward(self, batch)
        return {**losses, "loss": losses["loss"] * torch.inf} if len(taken) == 6 else losses

    monkeypatch.setattr(SequenceReconstructor, "forward", stumble)
    asked = {"stages": ("ser",), "probe_every": 0, "on_nonfinite": "skip", "quiet": False}
    run = pretrain(tiny_store, tmp_path / "run", **asked)
    assert [row.get("skipped") for row in metrics(run.path)] == [None, 1, None]
    printed = capsys.readouterr().out
    assert "1 step skipped" in printed
    assert "ser: the loss or its gradient is not finite in epoch 2, step 2 (clips 'clip " in printed


def test_what_else_is_asked_for_is_refused(tiny_path, tmp_path):
    with pytest.raises(ConfigError, match="on_nonfinite must be stop or skip, got 'ignore'"):
        pretrain(tiny_path, tmp_path / "run", on_nonfinite="ignore")


def test_what_is_done_about_them_is_the_runs_own(tiny_path, tmp_path, monkeypatch):
    """Where it is not said anew, as all options; a config of before it was recorded says to stop."""
    run = tmp_path / "run"
    interrupted(monkeypatch, tiny_path, run, 6, stages=("ser",), on_nonfinite="skip", probe_every=0)
    taken, forward = [], SequenceReconstructor.forward

    def stumble(self, batch):
        taken.append(None)
        losses = forward(self, batch)
        return {**losses, "loss": losses["loss"] * torch.inf} if len(taken) == 1 else losses

    monkeypatch.setattr(SequenceReconstructor, "forward", stumble)
    saved = checkpoints_in(run)
    with pytest.raises(TrainingError, match="epoch 2, step 3 ") as error:
        crrl_fast.pretrain(resume=run, quiet=True, on_nonfinite="stop", checkpoint_every=0)
    assert f"{run} is saved up to ser epoch 2, step 2" in str(error.value)
    assert f"`crrl-fast pretrain --resume {run} --set lr=... --force` goes on from there" in str(error.value)
    assert "--on-nonfinite skip" in str(error.value)
    assert checkpoints_in(run) == saved
    assert RunFolder.open(run).config.on_nonfinite == "stop"
    taken.clear()
    crrl_fast.pretrain(resume=run, quiet=True, on_nonfinite="skip")
    assert [row.get("skipped") for row in metrics(run)] == [None, 1, None]
    again = tmp_path / "again"
    taken[:] = [None, None]
    interrupted(monkeypatch, tiny_path, again, 6, stages=("ser",), on_nonfinite="skip", probe_every=0)
    taken.clear()
    crrl_fast.pretrain(resume=again, quiet=True)
    assert [row.get("skipped") for row in metrics(again)] == [None, 1, None]
    config = json.loads((again / "config.json").read_text())
    assert config.pop("on_nonfinite") == "skip"
    (again / "config.json").write_text(json.dumps(config))
    assert RunFolder.open(again).config.on_nonfinite == "stop"
