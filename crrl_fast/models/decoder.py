"""The decoder of the Sequence Reconstructor: a GRU that unfolds one vector into a clip."""

from __future__ import annotations

from torch import Tensor, nn

from crrl_fast.models.ragged_gru import RaggedGRU
from crrl_fast.padding import valid_frames


class SequenceDecoder(nn.Module):
    """A unidirectional GRU, fed the same vector at every step (CRRL, section III).

    Args:
        input_size: size C of the vector.
        output_size: numbers D a frame.
        layers: GRU layers.
        hidden_size: units of the GRU, whose outputs a linear layer turns into frames; None: the hidden state is the
            frame, as in the paper, so that every number lies within (-1, 1).
    """

    def __init__(self, input_size: int, output_size: int, layers: int, hidden_size: int | None = None) -> None:
        super().__init__()
        self.gru = RaggedGRU(input_size, hidden_size or output_size, layers, constant_input=True)
        self.readout = None if hidden_size is None else nn.Linear(hidden_size, output_size)

    def forward(self, vector: Tensor, frames: int, lengths: Tensor | None = None) -> Tensor:
        """Decode ``vector`` (B, C) into (B, frames, D), zero after ``lengths`` (B) int64; None: all frames."""
        outputs: Tensor = self.gru(vector, lengths, frames=frames).outputs
        if self.readout is None:
            return outputs
        decoded: Tensor = self.readout(outputs)
        return decoded if lengths is None else decoded * valid_frames(lengths, frames)[:, :, None]
