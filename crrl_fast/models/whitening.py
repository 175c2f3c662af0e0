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
    """Centres features, scales them along the principal axes of a covariance, and rotates them back.

    Of the features' own covariance this is ZCA: the mean outputs of a GRU vary mostly along a few axes, so that cosines
    see little of the others. Of that within clips, between views of the same clip, it shrinks what a view changes, as
    within-class covariance normalisation does (Hatch et al., Interspeech 2006). Before ``fit`` it leaves features as
    they are.

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
    def fit(self, features: Tensor, power: float, *, within: Tensor | None = None, squared_norm: float = 1.0) -> None:
        """Fit to ``features`` (N, C): along an axis of variance v they are divided by v to the ``power`` / 2.

        ``power`` 1 gives every axis the same variance, 0 leaves their ratios alone. The axes and their variances are
        those of ``features``, or of ``within`` (C, C), a covariance of views of the same clip. The mean squared norm
        becomes ``squared_norm``; features that are all the same, as those of a single clip are, are centred alone, and
        so are all where views are.
        """
        values = features.double()
        mean = values.mean(dim=0)
        centred = values - mean
        covariance = centred.T @ centred / len(values)
        variance, axes = torch.linalg.eigh(covariance if within is None else within.double())
        variance = variance.clamp(min=0)
        rounding = _ROUNDING**2 * values.square().sum(dim=1).mean()
        if covariance.trace() > rounding and variance.sum() > rounding:
            scale = (variance + _SHRINKAGE * variance.mean()) ** (-power / 2)
            matrix = (axes * scale) @ axes.T
            self.matrix.copy_(matrix * (squared_norm / (matrix @ covariance @ matrix).trace()).sqrt())
        self.mean.copy_(mean)
