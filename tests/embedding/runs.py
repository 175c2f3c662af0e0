"""Run folders with random weights, as pretraining would leave them."""

from pathlib import Path

import torch
from torch import nn

from crrl_fast.config import Recipe
from crrl_fast.data.frame_format import FrameFormat
from crrl_fast.data.store import Store
from crrl_fast.models import MotionEncoder
from crrl_fast.run import RunConfig, RunFolder


def make_run(path: Path, store: Store, data: Path | str = "absent.safetensors", stages=("ser", "cml"), **recipe):
    """Make the folder of a run on ``store``, which lies at ``data``; every stage has other weights."""
    recipe = Recipe(**{"hidden_size": 8, **recipe})
    config = RunConfig(
        data=str(data),
        data_sha256=store.info.sha256,
        dataset=store.info.dataset,
        frames=FrameFormat.of(store.info),
        split=next(iter(store.info.splits), None),
        stages=stages,
        recipe_name="paper",
        recipe=recipe,
        seed=0,
        device="cpu",
        threads=1,
    )
    run = RunFolder.create(path, config)
    for seed, stage in enumerate(stages):
        torch.manual_seed(seed)
        encoder = MotionEncoder(config.frames.width, recipe.hidden_size, recipe.layers, recipe.dropout)
        run.save_stage(stage, nn.ModuleDict({"encoder": encoder}))
    return run
