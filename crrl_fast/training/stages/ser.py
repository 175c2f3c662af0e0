"""Stage ``ser``: the Sequence Reconstructor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crrl_fast.config import Recipe
from crrl_fast.data.batches import Batch
from crrl_fast.models import Encoding, MotionEncoder, SequenceDecoder
from crrl_fast.padding import reverse_time


class SequenceReconstructor(nn.Module):
    """Encoder and decoder; one decoder reconstructs the clip from its first and, reversed, from its last output.

    Args:
        input_size: numbers D a frame.
        recipe: sizes and dropout.
    """

    def __init__(self, input_size: int, recipe: Recipe) -> None:
        super().__init__()
        self.encoder = MotionEncoder(input_size, recipe.hidden_size, recipe.layers, recipe.dropout)
        self.decoder = SequenceDecoder(self.encoder.feature_size, input_size, recipe.layers)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss`` = ``forward`` + ``reverse`` for the batch, scalars."""
        return reconstruction(self.decoder, self.encoder(batch.coords, batch.lengths), batch)


def reconstruction(decoder: SequenceDecoder, encoding: Encoding, batch: Batch) -> dict[str, Tensor]:
    """Return the losses of decoding ``encoding`` forward and in reverse, which run as one decoder batch."""
    decoded = decoder(torch.cat([encoding.first, encoding.last]), batch.coords.shape[1], batch.lengths.repeat(2))
    forward, reverse = decoded.split(len(batch.coords))
    losses = {
        "forward": squared_error(forward, batch.coords, batch.lengths),
        "reverse": squared_error(reverse, reverse_time(batch.coords, batch.lengths), batch.lengths),
    }
    return {"loss": losses["forward"] + losses["reverse"], **losses}


def squared_error(decoded: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean over clips of (1 / T) * the sum of squared errors over a clip's T valid frames.

    Args:
        decoded: (B, T, D), zero in the padding.
        target: (B, T, D), zero in the padding.
        lengths: (B) int64.
    """
    return ((decoded - target).square().sum(dim=(1, 2)) / lengths).mean()
