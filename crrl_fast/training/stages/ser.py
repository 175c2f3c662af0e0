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
        self.recipe = recipe
        self.decoder = build_decoder(input_size, self.encoder.feature_size, recipe)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss`` and its parts for the batch, scalars; see ``reconstruction``."""
        return reconstruction(self.decoder, self.encoder(batch.coords, batch.lengths), batch, self.recipe)


def build_decoder(input_size: int, feature_size: int, recipe: Recipe) -> SequenceDecoder:
    """Return a decoder of vectors of ``feature_size`` into frames, and their velocity where the recipe wants it."""
    predicted = input_size * (2 if recipe.velocity_weight > 0 else 1)
    layers = recipe.decoder_layers or recipe.layers
    return SequenceDecoder(feature_size, predicted, layers, recipe.decoder_size or None)


def reconstruction(decoder: SequenceDecoder, encoding: Encoding, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
    """Return ``loss`` and its parts, scalars.

    The paper's is ``forward``, of the clip decoded from the first output, plus ``reverse``, of the reversed clip
    decoded from the last one; they run as one decoder batch. With ``decode_from="mean"`` it is twice ``forward``, of
    the clip decoded from its feature.
    """
    target, lengths = batch.coords, batch.lengths
    if recipe.velocity_weight > 0:
        target = torch.cat([target, recipe.velocity_weight * batch.velocity], dim=2)
    if recipe.decode_from == "mean":
        decoded = decoder(encoding.feature, target.shape[1], lengths)
        error = squared_error(decoded, target, lengths)
        return {"loss": 2 * error, "forward": error}
    decoded = decoder(torch.cat([encoding.first, encoding.last]), target.shape[1], lengths.repeat(2))
    forward, reverse = decoded.split(len(target))
    losses = {
        "forward": squared_error(forward, target, lengths),
        "reverse": squared_error(reverse, reverse_time(target, lengths), lengths),
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
