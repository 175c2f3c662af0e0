"""Fast, practical CRRL: self-supervised pretraining of skeleton-action encoders.

``load`` gives the encoder of a run. The fused ops are in ``crrl_fast.ops``, their plain-PyTorch statements in
``crrl_fast.reference``.
"""

from crrl_fast.config import Recipe
from crrl_fast.data.info import Split
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError, CrrlError, DataError, TrainingError
from crrl_fast.loading import load
from crrl_fast.recipes import RECIPES

__all__ = ["RECIPES", "ConfigError", "CrrlError", "DataError", "Recipe", "Split", "Store", "TrainingError", "load"]
