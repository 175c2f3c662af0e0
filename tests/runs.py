"""Run folders with encoders that were never trained, as pretraining would leave them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from crrl_fast.config import Recipe
from crrl_fast.data.frame_format import FrameFormat
from crrl_fast.data.store import Store
from crrl_fast.models import FeatureEncoder, MotionEncoder
from crrl_fast.run import RunConfig, RunFolder, with_feature


def untrained_run(
    path: Path, config: RunConfig, stages: Sequence[str], seed: Callable[[int], object] = torch.manual_seed
) -> RunFolder:
    """Make a run folder in which ``stages`` have random encoders; ``seed`` is called with the number of each."""
    run = RunFolder.create(path, config)
    recipe = config.recipe
    for number, stage in enumerate(stages):
        seed(number)
        encoder = MotionEncoder(config.frames.width, recipe.hidden_size, recipe.layers, recipe.dropout)
        save_encoder(run, stage, encoder)
    return run


def save_encoder(run: RunFolder, stage: str, encoder: MotionEncoder) -> None:
    """Save a stage's encoder; where the recipe whitens, by features drawn from torch's default generator."""
    fitted = with_feature(encoder, run.config.recipe, run.config.frames)
    if isinstance(fitted, FeatureEncoder) and fitted.whitening:
        fitted.fit_whitening(torch.rand(50, fitted.feature_size).square() * 0.3, run.config.recipe.whitening)
    run.save_stage(stage, nn.ModuleDict({"encoder": encoder}), fitted)


def config_on(store: Store, data: Path | str, recipe: Recipe, stages: Sequence[str], **changes: object) -> RunConfig:
    """Return the config of a run on ``store``, which lies at ``data``, with some fields changed."""
    values = {
        "data": str(data),
        "data_sha256": store.info.sha256,
        "dataset": store.info.dataset,
        "frames": FrameFormat.of(store.info),
        "split": None,
        "stages": tuple(stages),
        "recipe_name": "paper",
        "recipe": recipe,
        "seed": 0,
        "device": "cpu",
        "threads": 1,
        **changes,
    }
    return RunConfig(**values)
