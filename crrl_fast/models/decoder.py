"""The decoder of the Sequence Reconstructor: a GRU that unfolds one vector into a clip."""

from __future__ import annotations

from torch import Tensor, nn

from crrl_fast.models.ragged_gru import RaggedGRU


class SequenceDecoder(nn.Module):
    """A unidirectional GRU whose hidden size is the frame width, fed the same vector at every step (CRRL, section III).

    Args:
        input_size: size C of the vector.
        output_size: numbers D a frame, which is also the hidden size.
        layers: GRU layers.
    """

    def __init__(self, input_size: int, output_size: int, layers: int) -> None:
        super().__init__()
        self.gru = RaggedGRU(input_size, output_size, layers, constant_input=True)

    def forward(self, vector: Tensor, frames: int, lengths: Tensor | None = None) -> Tensor:
        """Decode ``vector`` (B, C) into (B, frames, D), zero after ``lengths`` (B) int64; None: all frames."""
        outputs: Tensor = self.gru(vector, lengths, frames=frames).outputs
        return outputs
