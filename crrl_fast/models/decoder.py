"""The decoder of the Sequence Reconstructor: a GRU that unfolds one vector into a clip."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SequenceDecoder(nn.Module):
    """A unidirectional GRU whose hidden size is the frame width, fed the same vector at every step (CRRL, section III).

    Args:
        input_size: size C of the vector.
        output_size: numbers D a frame, which is also the hidden size.
        layers: GRU layers.
    """

    def __init__(self, input_size: int, output_size: int, layers: int) -> None:
        super().__init__()
        self.gru = nn.GRU(input_size, output_size, layers, batch_first=True)

    def forward(self, vector: Tensor, frames: int, lengths: Tensor | None = None) -> Tensor:
        """Decode ``vector`` (B, C) into (B, frames, D), zero after each clip's ``lengths`` (B) frames."""
        outputs: Tensor = self.gru(vector[:, None].expand(-1, frames, -1))[0]
        if lengths is None:
            return outputs
        valid = torch.arange(frames, device=lengths.device) < lengths[:, None]
        return outputs * valid[:, :, None]
