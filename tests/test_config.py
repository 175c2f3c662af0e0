import dataclasses

import pytest

from crrl_fast.config import Recipe, load_toml, parse_assignments
from crrl_fast.data.preprocess import Bone, Downsample, Rotate, Turn
from crrl_fast.errors import ConfigError
from crrl_fast.recipes import RECIPES, get_recipe


def test_paper_holds_the_release_values():
    recipe = get_recipe("paper")
    assert (recipe.lr, recipe.sgd_momentum, recipe.weight_decay) == (0.05, 0.9, 1e-4)
    assert (recipe.lr_milestones, recipe.lr_decay, recipe.epochs, recipe.batch_size) == ((18, 50), 0.5, 60, 32)
    assert (recipe.hidden_size, recipe.layers, recipe.dropout) == (256, 2, 0.2)
    assert (recipe.queue_size, recipe.temperature, recipe.momentum) == (64, 0.1, 0.999)
    assert (recipe.key_mlp_momentum, recipe.distill_weight, recipe.clip_grad_norm) == (False, 0.1, 5.0)
    assert recipe.contrast_weight == 1.0
    assert (recipe.optimizer, recipe.lr_schedule, recipe.warmup, recipe.steps) == ("sgd", "milestones", 0.0, 0)
    assert (recipe.precision, recipe.length_buckets) == ("fp32", 0)


def test_preprocessing_cuts_then_turns_then_takes_the_stream():
    assert Recipe().preprocessing() == (Downsample(60), Rotate())
    assert Recipe(align="turn", stream="bone", max_frames=9).preprocessing() == (Downsample(9), Turn(), Bone())
    assert Recipe(align="none").preprocessing() == (Downsample(60),)


def test_fast_has_the_encoder_of_paper_and_counts_steps():
    fast, paper = get_recipe("fast"), get_recipe("paper")
    for name in ("hidden_size", "layers", "dropout", "batch_size", "max_frames", "clip_grad_norm"):
        assert getattr(fast, name) == getattr(paper, name), name
    assert fast.steps > 0
    assert fast.epochs_on(300) > fast.epochs_on(1020)


def test_whoever_asks_for_epochs_gets_them_of_a_recipe_that_counts_steps():
    fast = get_recipe("fast")
    assert fast.with_overrides({"epochs": "3"}).epochs_on(1020) == 3
    assert fast.with_overrides({"epochs": 3, "steps": 64}).epochs_on(1020) == 2
    assert fast.with_overrides({"lr": 0.1}).steps == fast.steps


def test_recipes_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPES["paper"].lr = 1.0


def test_overrides_from_text_and_from_values():
    texts = {"lr": "0.02", "epochs": "3", "lr_milestones": "1, 2", "key_mlp_momentum": "True", "precision": "bf16"}
    values = {"lr": 0.02, "epochs": 3, "lr_milestones": [1, 2], "key_mlp_momentum": True, "precision": "bf16"}
    changed = Recipe().with_overrides(texts)
    assert changed == Recipe().with_overrides(values)
    assert (changed.lr, changed.epochs, changed.lr_milestones) == (0.02, 3, (1, 2))
    assert Recipe().with_overrides({"lr_milestones": ""}).lr_milestones == ()


def test_a_resolved_recipe_survives_json():
    recipe = Recipe(lr_milestones=(3, 9), precision="bf16")
    values = {**dataclasses.asdict(recipe), "lr_milestones": [3, 9]}
    assert Recipe().with_overrides(values) == recipe


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"learning_rate": "1"}, "unknown recipe field 'learning_rate'.*lr"),
        ({"lr": "fast"}, "lr must be a finite number, got 'fast'"),
        ({"lr": "nan"}, "lr must be a finite number"),
        ({"lr": "0"}, "lr must be greater than 0"),
        ({"epochs": "1.5"}, "epochs must be a whole number"),
        ({"epochs": 1.5}, "epochs must be a whole number"),
        ({"epochs": True}, "epochs must be a whole number"),
        ({"epochs": "0"}, "epochs must be at least 1"),
        ({"dropout": "1"}, r"dropout must be in \[0, 1\)"),
        ({"momentum": "1.1"}, r"momentum must be in \[0, 1\]"),
        ({"queue_size": "-1"}, "queue_size must be at least 0"),
        ({"contrast_weight": "-1"}, "contrast_weight must be at least 0"),
        ({"contrast_weight": "inf"}, "contrast_weight must be a finite number"),
        ({"length_buckets": "-1"}, "length_buckets must be at least 0"),
        ({"optimizer": "adam"}, "optimizer must be one of sgd, adamw, got 'adam'"),
        ({"lr_schedule": "linear"}, "lr_schedule must be one of milestones, cosine"),
        ({"warmup": "1"}, r"warmup must be in \[0, 1\)"),
        ({"warmup": "-0.1"}, r"warmup must be in \[0, 1\)"),
        ({"steps": "-1"}, "steps must be at least 0"),
        ({"steps": "0.5"}, "steps must be a whole number"),
        ({"length_buckets": "8.5"}, "length_buckets must be a whole number"),
        ({"cuda_graphs": "0"}, "cuda_graphs must be true or false"),
        ({"lr_milestones": "50,18"}, "lr_milestones must be rising"),
        ({"lr_milestones": "a"}, "lr_milestones must be a list of whole numbers"),
        ({"key_mlp_momentum": "1"}, "key_mlp_momentum must be true or false"),
        ({"align": "upright"}, "align must be one of rotate, turn, none, got 'upright'"),
        ({"precision": "fp8"}, "precision must be one of fp32, bf16"),
    ],
)
def test_unusable_fields_are_named(overrides, message):
    with pytest.raises(ConfigError, match=message):
        Recipe().with_overrides(overrides)


def test_toml(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text("lr = 0.02\nlr_milestones = [1, 2]\nkey_mlp_momentum = true\n")
    assert load_toml(file) == {"lr": 0.02, "lr_milestones": [1, 2], "key_mlp_momentum": True}
    file.write_text("lr = = 1")
    with pytest.raises(ConfigError, match="not a TOML file.*line 1"):
        load_toml(file)
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot read"):
        load_toml(tmp_path / "absent.toml")


def test_assignments():
    assert parse_assignments(["lr=0.1", " epochs = 3"]) == {"lr": "0.1", "epochs": "3"}
    with pytest.raises(ConfigError, match="write it as field=value"):
        parse_assignments(["lr"])


def test_unknown_recipe():
    with pytest.raises(ConfigError, match=r"'papers'.*paper, fast"):
        get_recipe("papers")
