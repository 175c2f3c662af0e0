"""Fast, practical CRRL: self-supervised pretraining of skeleton-action encoders.

The fused ops are in ``crrl_fast.ops``, their plain-PyTorch statements in ``crrl_fast.reference``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crrl_fast.config import Recipe
from crrl_fast.data.info import Split
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError, CrrlError, DataError, TrainingError
from crrl_fast.recipes import RECIPES

if TYPE_CHECKING:
    from crrl_fast.embedding import Embedder

__all__ = ["RECIPES", "ConfigError", "CrrlError", "DataError", "Recipe", "Split", "Store", "TrainingError", "load"]


def load(run: str | Path, encoder: str | None = None, device: str = "auto") -> Embedder:
    """Load an encoder of a run: ``load(run).encode(arrays)`` are the features of one's own clips.

    Args:
        run: a run folder that pretraining wrote.
        encoder: a finished stage (``ser``, ``cml``, ``inf``, ...), ``concat`` for those of ``ser`` and ``cml`` side by
            side, or ``random`` for an untrained one; None is the run's last fusion.
        device: where clips are encoded: ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``.

    Raises:
        ConfigError: there is no such run, encoder or device.
    """
    from crrl_fast.device import resolve_device
    from crrl_fast.embedding import Embedder
    from crrl_fast.run import RunFolder

    return Embedder.of_run(RunFolder.open(Path(run)), encoder, resolve_device(device))
