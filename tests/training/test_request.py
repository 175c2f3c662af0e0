from pathlib import Path

import pytest

from crrl_fast.config import Recipe
from crrl_fast.errors import ConfigError
from crrl_fast.recipes import RECIPES
from crrl_fast.training.request import PretrainRequest


@pytest.mark.parametrize(
    ("fusion", "stages"), [(None, ("cml", "inf")), ("distill", ("cml", "inf")), ("concat", ("ser", "cml"))]
)
def test_a_fusion_chooses_the_stages(fusion, stages):
    request = PretrainRequest.resolve("demo", fusion=fusion)
    assert (request.stages, request.fusion) == (stages, fusion or "distill")


def test_a_recipe_says_which_fusion_unless_another_or_stages_are_asked_for():
    concat = Recipe(fusion="concat")
    request = PretrainRequest.resolve("demo", recipe=concat)
    assert (request.stages, request.fusion) == (("ser", "cml"), "concat")
    request = PretrainRequest.resolve("demo", overrides={"fusion": "joint"})
    assert (request.stages, request.fusion) == (("joint",), "joint")
    assert PretrainRequest.resolve("demo", recipe=concat, fusion="distill").stages == ("cml", "inf")
    assert PretrainRequest.resolve("demo", recipe=concat, stages="ser").fusion is None
    request = PretrainRequest.resolve("demo", recipe="fast")
    assert request.fusion == RECIPES["fast"].fusion


@pytest.mark.parametrize("stages", ["joint", ["joint"], ("joint",)])
def test_stages_that_are_named_belong_to_no_fusion(stages):
    request = PretrainRequest.resolve("demo", stages=stages)
    assert (request.stages, request.fusion) == (("joint",), None)


def test_recipes_by_name_or_as_they_are():
    named = PretrainRequest.resolve("demo", recipe="fast", overrides={"epochs": 3})
    assert (named.recipe_name, named.recipe) == ("fast", RECIPES["fast"].with_overrides({"epochs": 3}))
    assert PretrainRequest.resolve("demo", recipe=RECIPES["fast"]).recipe_name == "fast"
    own = PretrainRequest.resolve("demo", recipe=Recipe(epochs=2), overrides={"lr": 0.1})
    assert (own.recipe_name, own.recipe) == ("custom", Recipe(epochs=2, lr=0.1))


def test_run_folders_of_one_second_are_numbered(tmp_path, monkeypatch, tiny_store):
    monkeypatch.chdir(tmp_path)
    taken = set()
    for _ in range(20):
        out = PretrainRequest.resolve(tiny_store).out
        assert out.name.startswith("tiny-paper-")
        assert out not in taken
        out.mkdir(parents=True)
        taken.add(out)
    assert PretrainRequest.resolve(Path("stores/mine.safetensors"), recipe="fast").out.name.startswith("mine-fast-")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"fusion": "joint", "stages": ("joint",)}, "give either a fusion or stages"),
        ({"fusion": "early"}, "unknown fusion 'early': choose one of distill, joint, concat, contrast"),
        ({"stages": "ser,cml"}, "unknown stage 'ser,cml'"),
        ({"overrides": {"fusion": "early"}}, "unknown fusion 'early'"),
        ({"recipe": "quick"}, "unknown recipe 'quick'"),
        ({"overrides": {"epoch": 3}}, "unknown recipe field 'epoch'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"probe_every": -1}, "at least 0, got -1"),
    ],
)
def test_impossible_requests(asked, message):
    with pytest.raises(ConfigError, match=message):
        PretrainRequest.resolve("demo", **asked)


@pytest.mark.parametrize("stages", ["cml", "joint"])
def test_queries_that_the_contrast_does_not_take_are_refused(stages):
    large = {"hidden_size": 520}
    with pytest.raises(ConfigError, match=f"stage '{stages}' would contrast 1040 numbers.*projection_size=128"):
        PretrainRequest.resolve("demo", stages=stages, overrides=large)
    assert PretrainRequest.resolve("demo", stages=stages, overrides={**large, "projection_size": 128})
    assert PretrainRequest.resolve("demo", stages="ser", overrides=large)
