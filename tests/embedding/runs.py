"""Run folders with random weights, as pretraining would leave them."""

from pathlib import Path

from crrl_fast.config import Recipe
from crrl_fast.data.store import Store
from tests.runs import config_on, untrained_run


def make_run(path: Path, store: Store, data: Path | str = "absent.safetensors", stages=("ser", "cml"), **recipe):
    """Make the folder of a run on ``store``, which lies at ``data``; every stage has other weights."""
    split = next(iter(store.info.splits), None)
    config = config_on(store, data, Recipe(**{"hidden_size": 8, **recipe}), stages, split=split)
    return untrained_run(path, config, stages)
