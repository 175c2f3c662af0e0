"""A stage that goes on from a state ends as one that was never interrupted, bit by bit."""

import copy
from dataclasses import replace

import pytest
import torch

from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.errors import CheckpointError
from crrl_fast.training.loop import StageLoop
from crrl_fast.training.request import STAGES
from crrl_fast.training.stages import ContrastiveMotionLearner, InformationFuser, JointLearner, SequenceReconstructor

RECIPE = Recipe(epochs=3, batch_size=5, lr=0.1, lr_milestones=(2,), hidden_size=8, queue_size=9, length_buckets=2)
TIMES = ("seconds", "clips_per_second")


ADAMW = RECIPE.with_overrides({"optimizer": "adamw", "lr": 0.01, "lr_schedule": "cosine", "warmup": 0.2})


def stage_loop(name, clips, recipe=RECIPE, seed=0):
    torch.manual_seed(seed)
    width = clips.width
    if name == "inf":
        features = torch.randn(len(clips), 2 * recipe.hidden_size, generator=torch.Generator().manual_seed(0))
        module = InformationFuser(width, recipe, features)
    else:
        kinds = {"ser": SequenceReconstructor, "cml": ContrastiveMotionLearner, "joint": JointLearner}
        module = kinds[name](width, recipe)
    return StageLoop(name, module, clips, recipe, torch.Generator().manual_seed(seed))


def finish(loop, stop_after=None):
    """Return the loop's records, and its state after ``stop_after`` steps as copied then."""
    records, states, taken = [], [], []

    def on_step(_):
        taken.append(None)
        if len(taken) == stop_after:
            states.append(copy.deepcopy(loop.state()))

    loop.run(on_step=on_step, on_epoch=records.append)
    return [{k: v for k, v in record.items() if k not in TIMES} for record in records], *states


@pytest.fixture
def clips(tiny_store):
    return ResidentClips(tiny_store, torch.arange(16), tiny_store.frames)


@pytest.mark.parametrize("recipe", [RECIPE, ADAMW], ids=["paper", "adamw"])
@pytest.mark.parametrize("steps", [1, 4, 6, 11, 12])
@pytest.mark.parametrize("name", STAGES)
def test_going_on_is_bit_identical(clips, name, steps, recipe):
    whole = stage_loop(name, clips, recipe)
    records, state = finish(whole, steps)
    expected = whole.state()
    epoch, step = divmod(steps - 1, 4)
    assert (state.epoch, state.step) == (epoch + 1, step + 1)
    if recipe is RECIPE:
        assert state.lr == (0.1 if epoch < 2 else 0.05)
    again = stage_loop(name, clips, recipe, seed=1)  # weights and generators are others until the state is loaded
    again.load_state(replace(state, tensors=dict(sorted(state.tensors.items()))))  # a file may order tensors otherwise
    (continued,) = finish(again)
    assert continued == records[epoch:]
    assert again.has_finished
    have = again.state()
    assert have.tensors.keys() == expected.tensors.keys()
    for key, tensor in expected.tensors.items():
        assert torch.equal(have.tensors[key], tensor), key


def test_a_state_holds_all_that_training_depends_on(clips):
    loop = stage_loop("cml", clips)
    _, state = finish(loop, 6)
    names = set(state.tensors)
    assert {"module.queue.keys", "module.queue.cursor", "module.queue.filled", "momentum.head.0.weight"} <= names
    assert {"module.key_encoder.gru.weight_hh_l0", "random.host", "random.order", "loss.loss"} <= names
    assert int(state.tensors["module.queue.cursor"]) == (16 + 10) % 9
    assert state.tensors["loss.loss"].shape == (2,)
    assert not any(name.startswith("momentum.key_") for name in names)


def test_an_epoch_that_begins_anew_forgets_its_losses(clips):
    _, state = finish(stage_loop("ser", clips), 6)
    loop = stage_loop("ser", clips, RECIPE.with_overrides({"batch_size": 8}))
    loop.load_state(state, restart_epoch=True)
    steps = []
    loop.run(on_step=steps.append, on_epoch=lambda _: None)
    assert steps == [8, 8] * 2


@pytest.mark.parametrize("override", [{"hidden_size": 9}, {"queue_size": 8}, {"sgd_momentum": 0.0}])
def test_a_state_of_other_sizes_is_refused(clips, override):
    _, state = finish(stage_loop("cml", clips), 2)
    with pytest.raises(CheckpointError, match="stage cml: the checkpoint does not fit"):
        stage_loop("cml", clips, RECIPE.with_overrides(override)).load_state(state)


def test_time_before_the_interruption_counts(clips):
    loop = stage_loop("ser", clips)
    _, state = finish(loop, 2)
    again = stage_loop("ser", clips)
    again.load_state(replace(state, seconds=1000.0))
    records = []
    again.run(on_step=lambda _: None, on_epoch=records.append)
    assert records[0]["seconds"] > 1000 > records[1]["seconds"]
