"""Run folders with encoders that were never trained, which is all that a protocol needs."""

from __future__ import annotations

from pathlib import Path

import torch

from crrl_fast.config import Recipe
from crrl_fast.data.store import Store
from crrl_fast.run import RunFolder
from tests.runs import config_on, untrained_run

HIDDEN_SIZE = 4


def make_run(
    path: Path,
    data: Path,
    *,
    stream: str = "joint",
    align: str = "none",
    split: str | None = None,
    stages=("cml",),
    seed: int = 0,
) -> RunFolder:
    """Return a run on the store at ``data`` whose ``stages`` have random encoders."""
    recipe = Recipe(hidden_size=HIDDEN_SIZE, layers=1, dropout=0.0, align=align, stream=stream)
    config = config_on(Store.open(data), data, recipe, stages, split=split, seed=seed)
    return untrained_run(path, config, stages, lambda number: torch.manual_seed(100 * seed + number))
