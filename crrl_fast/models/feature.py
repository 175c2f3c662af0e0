"""The clip feature of a recipe that takes more than the mean of an encoder's outputs for coordinates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crrl_fast.models.encoder import Encoding, MotionEncoder
from crrl_fast.models.whitening import Whitening
from crrl_fast.ops import motion_diff


class FeatureEncoder(nn.Module):
    """Encodes coordinates, or coordinates and velocity, with one encoder, and whitens what it finds of each of them.

    Args:
        encoder: of either.
        velocity_scale: factor on the velocity before it is encoded; None encodes coordinates alone.
        whitens: whether features pass a ``Whitening``, which leaves them as they are before it is fitted.

    Attributes:
        whitening: that of coordinates, and with velocity that of velocity after it; empty where there is none.
    """

    def __init__(self, encoder: MotionEncoder, velocity_scale: float | None, *, whitens: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.velocity_scale = velocity_scale
        self.streams = 1 if velocity_scale is None else 2
        self.feature_size = self.streams * encoder.feature_size
        self.whitening = nn.ModuleList(Whitening(encoder.feature_size) for _ in range(self.streams * whitens))

    def forward(self, frames: Tensor, lengths: Tensor) -> Encoding:
        """Encode the coordinates ``frames`` (B, T, D), of which ``lengths`` (B) int64 are valid."""
        if self.velocity_scale is not None:
            frames = torch.cat([frames, motion_diff(frames, lengths) * self.velocity_scale])
        encoding = self.encoder(frames, lengths.repeat(self.streams))
        feature, first, last = (torch.cat(part.chunk(self.streams), dim=1) for part in encoding)
        return Encoding(self.whitened(feature), first, last)

    def whitened(self, features: Tensor) -> Tensor:
        """Return features (B, C), those of the streams side by side, whitened."""
        if not self.whitening:
            return features
        parts = zip(self.whitening, features.chunk(self.streams, dim=1), strict=True)
        return torch.cat([whitening(part) for whitening, part in parts], dim=1)

    def fit_whitening(self, features: Tensor, power: float) -> None:
        """Fit it to ``features`` (N, C) that have not been whitened; see ``Whitening.fit``."""
        for whitening, part in zip(self.whitening, features.chunk(self.streams, dim=1), strict=True):
            whitening.fit(part, power)  # type: ignore[operator]
