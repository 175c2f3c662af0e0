"""A GRU over clips of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from crrl_fast import _ext
from crrl_fast.ops.gru_cuda import cudnn_outputs, persistent_outputs
from crrl_fast.reference import gru as reference
from crrl_fast.reference.gru import (
    GruOutput,
    check_inputs,
    draw_seed,
    has_dropout,
    product_dtype,
    summarize,
)

Backend = Literal["auto", "cudnn", "persistent"]
Results = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

# The backward needs the units of a direction padded to whole vectors, and the valid frames of a batch to whole tiles.
_UNIT_STEP = 16
_ROW_STEP = 64


def gru(
    x: Tensor,
    weights: Sequence[Tensor],
    lengths: Tensor | None = None,
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    frames: int | None = None,
    return_outputs: bool = True,
    products: torch.dtype | None = None,
    backend: Backend = "auto",
) -> GruOutput:
    """Run a GRU over each clip's valid frames, without packing, sorting or a host synchronisation.

    The equations of ``torch.nn.GRU`` (Cho et al., arXiv 1406.1078v1): r = sigmoid(W_ir x + b_ir + W_hr h + b_hr), z
    likewise, n = tanh(W_in x + b_in + r * (W_hn h + b_hn)), h' = (1 - z) * n + z * h. Both directions start from zero,
    the reverse one at a clip's last valid frame. What lies in the padding is never used: NaN there stays out of the
    results and of the gradient. On the CPU nothing is computed on padded frames, and the same inputs give the same
    bits with any number of threads.

    Args:
        x: (B, T, D) float32, float64 or bfloat16, T at least 1; or (B, D) where ``frames`` is given: the same vector at
            every frame, which is projected once. float16 too, which on the CPU runs the reference.
        weights: in the order of ``nn.GRU``: for each layer, for each direction w_ih (3H, D of the layer), w_hh (3H, H)
            and, all or none, b_ih (3H) and b_hh (3H); gates in the order r, z, n. In x's dtype; float32 weights also
            go with an x of 16 bits.
        lengths: (B) int64, the number of valid frames of each clip, 0 to T, on the device of x. None: all T. Only on
            the CPU are the values checked; elsewhere that would cost a synchronisation, and they are clamped instead.
            A clip of 0 frames has zero outputs, mean, first and last.
        num_layers: each layer but the first runs on the outputs of the one before it.
        bidirectional: every layer also runs in reverse.
        dropout: in [0, 1), on the outputs of every layer but the last; pass 0 in eval mode. Drawn from torch's default
            generator of x's device.
        frames: T of a constant input.
        return_outputs: False leaves ``outputs`` out, where mean, first and last are enough.
        products: dtype of the matrix products: None is autocast's where it is on and x float32, else x's. bfloat16 of
            float32 x rounds the factors of every product, in the backward too, and sums in float32; on the CPU state,
            gates and results stay float32, and a processor without bfloat16 instructions multiplies in float32.
        backend: of CUDA tensors: ``cudnn``, or ``persistent``, our kernel that holds the recurrent weights on the chip;
            ``auto`` is cudnn.

    Returns:
        Outputs, mean, first and last in x's dtype. Differentiable once in x and the weights.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: shapes or devices that do not go together, a length outside [0, T], a dropout outside [0, 1), an
            unknown backend, or one for CUDA elsewhere.
    """
    check_inputs(x, weights, lengths, frames, num_layers, bidirectional, dropout)
    products = product_dtype(x, products)
    if backend not in get_args(Backend):
        raise ValueError(f"gru: backend must be auto, cudnn or persistent, got {backend!r}")
    if x.device.type == "cuda":
        compose = persistent_outputs if backend == "persistent" else cudnn_outputs
        outputs = compose(
            x,
            weights,
            lengths,
            num_layers=num_layers,
            bidirectional=bidirectional,
            dropout=dropout,
            frames=frames,
            products=products,
        )
        return summarize(outputs, lengths, return_outputs, x.dtype)
    if backend != "auto":
        raise ValueError(f"gru: backend {backend!r} is for CUDA, but x is on {x.device}")
    if x.device.type not in _ext.device_types or products == torch.float16:
        return reference(
            x,
            weights,
            lengths,
            num_layers=num_layers,
            bidirectional=bidirectional,
            dropout=dropout,
            frames=frames,
            return_outputs=return_outputs,
            products=products,
        )
    is_dropping = has_dropout(dropout, num_layers)
    outputs, mean, first, last, _, _ = torch.ops.crrl_fast.gru(
        x,
        list(weights),
        lengths,
        draw_seed(x.device) if is_dropping else None,
        -1 if frames is None else frames,
        num_layers,
        bidirectional,
        dropout if is_dropping else 0.0,
        products == torch.bfloat16 and _ext.has_bfloat16_products,
        return_outputs,
        torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *weights)),
    )
    return GruOutput(outputs if return_outputs else None, mean, first, last)


def _fake(
    x: Tensor,
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    seed: Tensor | None,
    frames: int,
    num_layers: int,
    bidirectional: bool,
    dropout: float,
    bfloat16: bool,
    return_outputs: bool,
    with_grad: bool,
) -> Results:
    is_constant = x.dim() == 2
    check_inputs(x, weights, lengths, frames if is_constant else None, num_layers, bidirectional, dropout)
    directions = 2 if bidirectional else 1
    hidden = weights[1].shape[1]
    clips, total = x.shape[0], frames if is_constant else x.shape[1]
    rows = -(-clips * total // _ROW_STEP) * _ROW_STEP
    units = -(-hidden // _UNIT_STEP) * _UNIT_STEP
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    saved = torch.bfloat16 if bfloat16 else wide
    ends = clips, directions * hidden
    return (
        x.new_empty((clips, total, directions * hidden) if return_outputs else (0,)),
        x.new_empty(ends),
        x.new_empty(ends),
        x.new_empty(ends),
        x.new_empty((num_layers, rows, directions * units) if with_grad else (0,), dtype=saved),
        x.new_empty((num_layers, rows, directions * 4 * units) if with_grad else (0,), dtype=saved),
    )


def _fake_backward(
    grad_outputs: Tensor | None,
    grad_mean: Tensor | None,
    grad_first: Tensor | None,
    grad_last: Tensor | None,
    x: Tensor,
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    seed: Tensor | None,
    hidden: Tensor,
    gates: Tensor,
    frames: int,
    num_layers: int,
    bidirectional: bool,
    dropout: float,
    bfloat16: bool,
    x_grad: bool,
) -> tuple[Tensor, list[Tensor]]:
    return x.new_empty(x.shape if x_grad else (0,)), [weight.new_empty(weight.shape) for weight in weights]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Results) -> None:  # noqa: ANN401
    x, weights, lengths, seed, *settings, _, _ = inputs
    *_, hidden, gates = output
    ctx.save_for_backward(x, lengths, seed, hidden, gates, *weights)
    ctx.mark_non_differentiable(hidden, gates)
    ctx.set_materialize_grads(False)  # a result that no loss uses costs nothing
    ctx.settings = settings


def _backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | list[Tensor] | None, ...]:  # noqa: ANN401
    if torch.is_grad_enabled():
        raise RuntimeError(
            "gru is differentiable once: the gradient of its gradient is not written. Use crrl_fast.reference.gru for "
            "create_graph=True"
        )
    x, lengths, seed, hidden, gates, *weights = ctx.saved_tensors
    x_grad = ctx.needs_input_grad[0]
    grad_x, grad_weights = torch.ops.crrl_fast.gru_backward(
        *grads[:4], x, weights, lengths, seed, hidden, gates, *ctx.settings, x_grad
    )
    return grad_x if x_grad else None, grad_weights, *(None,) * 9


if _ext.available:
    torch.library.register_fake("crrl_fast::gru", _fake)
    torch.library.register_fake("crrl_fast::gru_backward", _fake_backward)
    torch.library.register_autograd("crrl_fast::gru", _backward, setup_context=_setup_context)
