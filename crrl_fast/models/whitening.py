"""Whitening: a fixed linear map, fitted once, that evens out how much features vary along their principal axes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# What is added to every axis' variance, as a share of their mean: axes that the fitted clips hardly or never vary along
# (there are such wherever there are fewer clips than numbers) are not blown up.
_SHRINKAGE = 1e-3
# Features whose standard deviation is a smaller share of their size differ by the rounding of float32 alone.
_ROUNDING = 1e-6


class Whitening(nn.Module):
    """Centres features, scales them along their principal axes, and rotates them back (ZCA).

    The mean outputs of a GRU vary mostly along a few axes, so that cosines see little of the others. Before ``fit`` it
    leaves features as they are.

    Args:
        size: numbers C of a feature.

    Attributes:
        mean: (C) what is subtracted.
        matrix: (C, C) what it is multiplied by.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("matrix", torch.eye(size))

    def forward(self, features: Tensor) -> Tensor:
        """Return ``features`` (B, C) whitened, in the dtype of the map, under autocast too."""
        with torch.autocast(features.device.type, enabled=False):
            return (features.to(self.mean.dtype) - self.mean) @ self.matrix

    @torch.no_grad()
    def fit(self, features: Tensor, power: float, *, squared_norm: float = 1.0) -> None:
        """Fit to ``features`` (N, C): along an axis of variance v they are divided by v to the ``power`` / 2.

        ``power`` 1 gives every axis the same variance, 0 leaves their ratios alone. The mean squared norm becomes
        ``squared_norm``; features that are all the same, as those of a single clip are, are centred alone.
        """
        values = features.double()
        mean = values.mean(dim=0)
        centred = values - mean
        variance, axes = torch.linalg.eigh(centred.T @ centred / len(values))
        total = variance.clamp(min=0).sum()
        if total > _ROUNDING**2 * values.square().sum(dim=1).mean():
            scale = (variance.clamp(min=0) + _SHRINKAGE * total / len(variance)) ** (-power / 2)
            scale = scale * (squared_norm / (variance.clamp(min=0) * scale.square()).sum()).sqrt()
            self.matrix.copy_((axes * scale) @ axes.T)
        self.mean.copy_(mean)
