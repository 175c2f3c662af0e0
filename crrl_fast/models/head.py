"""The projection head that the contrast and the distillation put on the clip feature."""

from __future__ import annotations

from torch import nn


def mlp_head(size: int, out: int | None = None) -> nn.Sequential:
    """Return the release's MLP: ``size``-``size``-``out`` with one ReLU (512-512-512 in the paper); None: ``size``."""
    return nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size if out is None else out))
