"""The encoder: a bidirectional GRU over a clip's frames."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from crrl_fast.models.ragged_gru import RaggedGRU


class Encoding(NamedTuple):
    """What the stages need of the encoder's outputs; C = 2 * hidden_size.

    Attributes:
        feature: (B, C) clip feature, the mean of the outputs over the valid frames (temporal average pooling).
        first: (B, C) output at the first frame.
        last: (B, C) output at the last valid frame.
    """

    feature: Tensor
    first: Tensor
    last: Tensor


class MotionEncoder(nn.Module):
    """Encodes coordinates or velocities of clips (CRRL, section III).

    Args:
        input_size: numbers D a frame.
        hidden_size: units per direction.
        layers: GRU layers.
        dropout: between layers, in training mode.
    """

    def __init__(self, input_size: int, hidden_size: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.feature_size = 2 * hidden_size
        self.gru = RaggedGRU(
            input_size,
            hidden_size,
            layers,
            bidirectional=True,
            dropout=dropout if layers > 1 else 0.0,  # PyTorch warns of a dropout that has no layer to follow
        )

    def forward(self, frames: Tensor, lengths: Tensor) -> Encoding:
        """Encode ``frames`` (B, T, D), coordinates or velocity, of which ``lengths`` (B) int64 are valid."""
        _, mean, first, last = self.gru(frames, lengths, return_outputs=False)
        return Encoding(mean, first, last)
