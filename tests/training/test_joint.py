"""Stage ``joint`` against the two stages that it joins, each in float64 with the same weights."""

import copy

import pytest
import torch

from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.training.stages import ContrastiveMotionLearner, JointLearner, SequenceReconstructor

RECIPE = Recipe(hidden_size=7, queue_size=9, dropout=0.0, momentum=0.9)


@pytest.fixture
def batch(tiny_store):
    clips = ResidentClips(tiny_store, torch.arange(24), tiny_store.frames.double())
    return clips.batch(torch.tensor([0, 1, 8, 17, 3]))


def joined_and_apart(recipe):
    """Return a joint learner and, with its weights, the two stages."""
    torch.manual_seed(0)
    joint = JointLearner(60, recipe).double()
    reconstructor = SequenceReconstructor(60, recipe).double()
    reconstructor.encoder.load_state_dict(joint.encoder.state_dict())
    reconstructor.decoder.load_state_dict(joint.decoder.state_dict())
    contrast = ContrastiveMotionLearner(60, recipe).double()
    contrast.load_state_dict({name: value for name, value in joint.state_dict().items() if "decoder" not in name})
    return joint, reconstructor, contrast


def gradients(module, prefix=""):
    return {
        name: parameter.grad
        for name, parameter in module.named_parameters()
        if name.startswith(prefix) and parameter.requires_grad
    }


@pytest.mark.parametrize("key_mlp_momentum", [False, True])
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_the_loss_and_its_gradient_are_the_weighted_sums_of_both(batch, weight, key_mlp_momentum):
    recipe = RECIPE.with_overrides({"contrast_weight": weight, "key_mlp_momentum": key_mlp_momentum})
    joint, reconstructor, contrast = joined_and_apart(recipe)
    for step in range(2):
        if step:  # by then the key network and the queue have moved
            with torch.no_grad():
                for stage in (joint, reconstructor, contrast):
                    for parameter in stage.encoder.parameters():
                        parameter.mul_(1.1)
        losses, rebuilt, contrasted = (stage(batch) for stage in (joint, reconstructor, contrast))
        expected = rebuilt["loss"] + weight * contrasted["loss"]
        torch.testing.assert_close(losses["loss"], expected, rtol=1e-13, atol=0)
        assert set(losses) == {"loss", "forward", "reverse", "contrast", "accuracy"}
        for part in ("forward", "reverse"):
            torch.testing.assert_close(losses[part], rebuilt[part], rtol=1e-13, atol=0)
        torch.testing.assert_close(losses["contrast"], contrasted["loss"], rtol=1e-13, atol=0)
        assert losses["accuracy"] == contrasted["accuracy"]
    losses["loss"].backward()
    expected.backward()
    for name, gradient in gradients(joint, "encoder.").items():
        parts = [gradients(stage)[name] for stage in (reconstructor, contrast)]
        assert all(part.abs().max() > 0 for part in parts), name
        torch.testing.assert_close(gradient, sum(parts), rtol=1e-9, atol=1e-12)
    for name, gradient in gradients(joint, "decoder.").items():
        torch.testing.assert_close(gradient, gradients(reconstructor)[name], rtol=1e-9, atol=1e-12)
    for name, gradient in gradients(joint, "head.").items():
        torch.testing.assert_close(gradient, gradients(contrast)[name], rtol=1e-9, atol=1e-12)
    for name, value in contrast.state_dict().items():
        torch.testing.assert_close(joint.state_dict()[name], value, rtol=1e-12, atol=1e-12)


def test_without_weight_the_contrast_leaves_the_reconstruction_alone(batch):
    joint, reconstructor, _ = joined_and_apart(RECIPE.with_overrides({"contrast_weight": 0.0}))
    joint(batch)["loss"].backward()
    reconstructor(batch)["loss"].backward()
    for name, gradient in gradients(reconstructor).items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradients(joint)[name], gradient, rtol=1e-12, atol=1e-15)
    assert all(not gradient.any() for gradient in gradients(joint, "head.").values())


def test_evaluation_mode_moves_neither_keys_nor_queue(batch):
    joint, *_ = joined_and_apart(RECIPE)
    before = copy.deepcopy(joint.state_dict())
    joint.eval()(batch)
    assert all(torch.equal(value, before[name]) for name, value in joint.state_dict().items())
