"""The useful work of a step: the multiply-adds of its matrix products, on valid frames only.

Not counted: what a padded frame would take, products with the zero state before a clip's first frame, input gradients
that nobody asks for, and work whose result is known (the input projection of a decoder fed one vector, after the first
frame; the frozen teacher, after the first epoch). So it is the same number for every contender, whatever it computes.
"""

from __future__ import annotations

from dataclasses import dataclass

from crrl_fast.config import Recipe

FORWARD, WITH_WEIGHT_GRADIENT, WITH_BOTH_GRADIENTS = 1, 2, 3
"""Products of one linear map: the forward alone, with the weight's gradient, with the input's as well."""


@dataclass(frozen=True)
class Ragged:
    """A batch of so many clips with so many valid frames in all."""

    clips: int
    frames: int


def step_flops(stage: str, batch: Ragged, width: int, recipe: Recipe) -> int:
    """Return the floating-point operations of a training step, two a multiply-add.

    Args:
        stage: ``ser``, ``cml`` or ``inf``.
        batch: of clips of at least one frame.
        width: numbers a frame.
        recipe: sizes.
    """
    size = 2 * recipe.hidden_size
    encoder = gru_macs(batch, width, recipe.hidden_size, recipe.layers, directions=2)
    head = WITH_BOTH_GRADIENTS * _head_macs(batch, size)
    if stage == "cml":
        key = gru_macs(batch, width, recipe.hidden_size, recipe.layers, directions=2, trained=False)
        contrast = 2 * batch.clips * size * recipe.queue_size  # the logits; the query's gradient
        return 2 * (encoder + head + key + _head_macs(batch, size) + contrast)
    # Forward and reverse reconstruct every clip, each from a vector of its own.
    decoded = Ragged(2 * batch.clips, 2 * batch.frames)
    decoder = gru_macs(decoded, size, width, recipe.layers, constant_input=True)
    return 2 * (encoder + decoder + (head if stage == "inf" else 0))


def gru_macs(
    batch: Ragged,
    width: int,
    hidden: int,
    layers: int,
    *,
    directions: int = 1,
    constant_input: bool = False,
    trained: bool = True,
) -> int:
    """Return the multiply-adds of a GRU, forward and, where it is trained, backward.

    Args:
        batch: of clips of at least one frame.
        width: numbers a frame of its input.
        hidden: units a direction.
        layers: GRU layers.
        directions: 1 or 2.
        constant_input: its input is a vector a clip, which wants a gradient; else frames, which want none.
        trained: whether there is a backward.
    """
    gates = 3 * hidden
    each = WITH_BOTH_GRADIENTS if trained else FORWARD
    recurrent = each * (batch.frames - batch.clips) * hidden * gates
    if constant_input:
        first = each * batch.clips * width * gates
    else:
        first = (WITH_WEIGHT_GRADIENT if trained else FORWARD) * batch.frames * width * gates
    further = each * batch.frames * (directions * hidden) * gates
    return directions * (first + recurrent + (layers - 1) * (further + recurrent))


def _head_macs(batch: Ragged, size: int) -> int:
    """Return the multiply-adds of an MLP's forward: two square layers."""
    return 2 * batch.clips * size * size
