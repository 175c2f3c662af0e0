"""Fast, practical CRRL: self-supervised pretraining of skeleton-action encoders.

``pretrain`` makes a run folder, which ``crrl_fast.evaluation`` evaluates, and whose encoder ``load`` gives to embed
clips with. The fused ops are in ``crrl_fast.ops``, their plain-PyTorch statements in ``crrl_fast.reference``.
"""

from crrl_fast.api import load, pretrain
from crrl_fast.config import Recipe
from crrl_fast.data.info import Split
from crrl_fast.data.store import Store
from crrl_fast.errors import CheckpointError, ConfigError, CrrlError, DataError, TrainingError
from crrl_fast.recipes import RECIPES

__all__ = [
    "RECIPES",
    "CheckpointError",
    "ConfigError",
    "CrrlError",
    "DataError",
    "Recipe",
    "Split",
    "Store",
    "TrainingError",
    "load",
    "pretrain",
]
