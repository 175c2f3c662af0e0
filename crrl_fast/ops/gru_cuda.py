"""The GRU on CUDA, composed of cuDNN's or of the persistent kernel's. Nothing is read back to the host, so that a CUDA
graph can hold it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from crrl_fast.ops.gru_scan import gru_scan
from crrl_fast.padding import reverse_time, valid_frames
from crrl_fast.reference.gru import has_dropout, split_weights


def cudnn_outputs(
    x: Tensor,
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    *,
    num_layers: int,
    bidirectional: bool,
    dropout: float,
    frames: int | None,
    products: torch.dtype,
) -> Tensor:
    """Return the outputs (B, T, C) of ``crrl_fast.ops.gru`` in dtype ``products``, zero in the padding.

    Batches without lengths are one call of cuDNN, or one a layer where there is dropout: cuDNN's own would not follow
    torch's seed. With lengths, each direction of each layer is one dense call, the reverse one over clips turned within
    their lengths, so that no state comes through padding.
    """
    directions = 2 if bidirectional else 1
    with torch.autocast(x.device.type, enabled=False):  # under which cuDNN would run in float16, whatever its dtype
        inputs = (x if frames is None else x[:, None].expand(-1, frames, -1)).to(products)
        if lengths is None and not has_dropout(dropout, num_layers):
            own = list(weights)
            if own[0].dtype != products:  # else nn.RNNBase holds them as cuDNN wants them
                own = _compact(own, products, num_layers * directions)
            return _dense(inputs, own, num_layers, bidirectional)
        if lengths is not None:
            lengths = lengths.clamp(0, inputs.shape[1])
            inputs = _without_padding(inputs, lengths)
        for layer, cells in enumerate(split_weights(weights, num_layers, bidirectional)):
            if layer > 0 and dropout > 0:
                inputs = F.dropout(inputs, dropout)
            if lengths is None:
                own = _compact([weight for cell in cells for weight in cell], products, directions)
                inputs = _dense(inputs, own, 1, bidirectional)
            else:
                inputs = _ragged_layer(inputs, cells, lengths)
        return inputs


def _ragged_layer(inputs: Tensor, cells: Sequence[Sequence[Tensor]], lengths: Tensor) -> Tensor:
    forward, *reverse = (_compact(cell, inputs.dtype, 1) for cell in cells)
    outputs = [_dense(inputs, forward, 1, False)]
    for cell in reverse:
        outputs.append(reverse_time(_dense(reverse_time(inputs, lengths), cell, 1, False), lengths))
    return _without_padding(torch.cat(outputs, dim=2), lengths)


def _without_padding(x: Tensor, lengths: Tensor) -> Tensor:
    """Return x (B, T, D) with zeros in the padding; no gradient reaches what was there."""
    return x.masked_fill(~valid_frames(lengths, x.shape[1])[:, :, None], 0)


def _dense(inputs: Tensor, weights: list[Tensor], num_layers: int, bidirectional: bool) -> Tensor:
    cells = num_layers * (2 if bidirectional else 1)
    outputs: Tensor = torch._VF.gru(  # what nn.GRU calls
        inputs,
        inputs.new_zeros(cells, len(inputs), weights[1].shape[1]),
        weights,
        len(weights) == 4 * cells,
        num_layers,
        0.0,
        torch.is_grad_enabled(),  # training mode: what the backward needs is kept
        bidirectional,
        True,
    )[0]
    return outputs


def _compact(weights: Sequence[Tensor], dtype: torch.dtype, cells: int) -> list[Tensor]:
    """Return the weights of so many cells in ``dtype`` as cuDNN wants them: one buffer, matrices before biases.

    Of others it makes such a buffer at every call, weight by weight, and torch warns.
    """
    per_cell = len(weights) // cells
    order = sorted(range(len(weights)), key=lambda index: index % per_cell >= 2)
    buffer = torch.cat([weights[index].flatten() for index in order]).to(dtype)
    pieces = buffer.split([weights[index].numel() for index in order])
    views = {index: piece.view_as(weights[index]) for index, piece in zip(order, pieces, strict=True)}
    return [views[index] for index in range(len(weights))]


def persistent_outputs(
    x: Tensor,
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    *,
    num_layers: int,
    bidirectional: bool,
    dropout: float,
    frames: int | None,
    products: torch.dtype,
) -> Tensor:
    """Return what ``cudnn_outputs`` does: a layer is one product for its projections and one call of ``gru_scan``."""
    with torch.autocast(x.device.type, enabled=False):
        inputs = (x if frames is None else x[:, None]).to(products)
        if lengths is not None:
            inputs = _without_padding(inputs, lengths)
        for layer, directions in enumerate(split_weights(weights, num_layers, bidirectional)):
            if layer > 0 and dropout > 0:
                inputs = F.dropout(inputs, dropout)
            w_ih, w_hh, *biases = (torch.stack(same) for same in zip(*directions, strict=True))
            b_ih, b_hh = biases or (None, None)
            bias = None if b_ih is None else b_ih.to(products).flatten()
            projected = F.linear(inputs, w_ih.to(products).flatten(0, 1), bias).unflatten(2, (len(directions), -1))
            states = gru_scan(projected, w_hh.to(products), b_hh, lengths, frames=frames if layer == 0 else None)
            inputs = states.flatten(2)
        return inputs
