"""The embedded data set must need learning, and must be learnt."""

import io

import torch
from rich.console import Console

from crrl_fast.data.catalog import prepare
from crrl_fast.evaluation import LinearProbe, RunEvaluation, evaluate
from crrl_fast.recipes import get_recipe
from crrl_fast.training.pretrain import PretrainRequest, pretrain


def mean_pose_accuracy(store) -> float:
    """Return the nearest-neighbour accuracy of the clips' mean poses, in percent."""
    pose = torch.stack([store.clip(i).mean(dim=0).flatten() for i in range(len(store))])
    train, test = store.split()
    nearest = torch.cdist(pose[test], pose[train]).argmin(dim=1)
    return 100 * float((store.labels[train][nearest] == store.labels[test]).double().mean())


def test_a_trained_encoder_is_20_points_over_the_mean_pose(tmp_path, cpu):
    recipe = get_recipe("paper").with_overrides({"epochs": 16, "lr": 0.2, "max_frames": 30})
    store = prepare("demo", None).processed(recipe.preprocessing())
    path = tmp_path / "demo.safetensors"
    store.save(path)
    request = PretrainRequest(
        data=str(path),
        split=None,
        recipe_name="paper",
        recipe=recipe,
        stages=("ser",),
        out=tmp_path / "run",
        seed=0,
        device=cpu,
        probe_every=0,
    )
    run = pretrain(request, Console(file=io.StringIO()))
    linear = evaluate(RunEvaluation.open(run), LinearProbe())["accuracy"]
    mean_pose = mean_pose_accuracy(store)
    assert mean_pose < 50
    assert linear >= mean_pose + 20, (linear, mean_pose)
