"""The fusion by concatenation: the features of several encoders side by side."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from crrl_fast.models.encoder import Encoding, MotionEncoder
from crrl_fast.models.feature import FeatureEncoder


class ConcatEncoder(nn.Module):
    """Encodes a clip with several encoders and puts what they find side by side.

    Args:
        parts: the encoders by name; their order is that of the features.
    """

    def __init__(self, parts: Mapping[str, MotionEncoder | FeatureEncoder]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.feature_size = sum(part.feature_size for part in parts.values())

    def forward(self, frames: Tensor, lengths: Tensor) -> Encoding:
        """Encode ``frames`` (B, T, D), of which ``lengths`` (B) int64 are valid."""
        encodings = [part(frames, lengths) for part in self.parts.values()]
        return Encoding(*(torch.cat(pieces, dim=1) for pieces in zip(*encodings, strict=True)))
