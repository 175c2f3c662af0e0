"""Run folders with encoders that were never trained, which is all that a protocol needs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from crrl_fast.config import Recipe
from crrl_fast.data.frame_format import FrameFormat
from crrl_fast.data.store import Store
from crrl_fast.models import MotionEncoder
from crrl_fast.run import RunConfig, RunFolder

HIDDEN_SIZE = 4


def make_run(
    path: Path, data: Path, *, stream: str = "joint", split: str | None = None, stages=("cml",), seed: int = 0
) -> RunFolder:
    """Return a run on the store at ``data`` whose ``stages`` have random encoders."""
    store = Store.open(data)
    recipe = Recipe(hidden_size=HIDDEN_SIZE, layers=1, dropout=0.0, stream=stream)
    config = RunConfig(
        data=str(data),
        data_sha256=store.info.sha256,
        dataset=store.info.dataset,
        frames=FrameFormat.of(store.info),
        split=split,
        stages=tuple(stages),
        recipe_name="paper",
        recipe=recipe,
        seed=seed,
        device="cpu",
        threads=1,
    )
    run = RunFolder.create(path, config)
    torch.manual_seed(seed)
    for stage in stages:
        encoder = MotionEncoder(config.frames.width, recipe.hidden_size, recipe.layers, recipe.dropout)
        run.save_stage(stage, nn.ModuleDict({"encoder": encoder}))
    return run
