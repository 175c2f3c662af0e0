"""A GRU over clips of different lengths in plain PyTorch: the specification of ``crrl_fast.ops.gru``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crrl_fast.padding import valid_frames
from crrl_fast.reference.checks import check_length_values, check_lengths, dtype_name
from crrl_fast.reference.philox import philox

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
HALVES = (torch.bfloat16, torch.float16)


class GruOutput(NamedTuple):
    """What a GRU says of each clip; C = directions * hidden size, the forward direction first.

    Attributes:
        outputs: (B, T, C) the last layer's output at every frame, zero in the padding; None where not asked for.
        mean: (B, C) mean of the outputs over the valid frames.
        first: (B, C) output at frame 0.
        last: (B, C) output at the last valid frame: both directions' at that frame.
    """

    outputs: Tensor | None
    mean: Tensor
    first: Tensor
    last: Tensor


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
) -> GruOutput:
    """Run a GRU over each clip's valid frames, frame by frame.

    The equations of ``torch.nn.GRU`` (Cho et al., arXiv 1406.1078v1): r = sigmoid(W_ir x + b_ir + W_hr h + b_hr), z
    likewise, n = tanh(W_in x + b_in + r * (W_hn h + b_hn)), h' = (1 - z) * n + z * h. Both directions start from zero,
    the reverse one at a clip's last valid frame. What lies in the padding is never used: NaN there stays out of the
    results and of the gradient.

    Args:
        x: (B, T, D) float32, float64, bfloat16 or float16, T at least 1; or (B, D) where ``frames`` is given: the same
            vector at every frame.
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
        return_outputs: False leaves ``outputs`` out.
        products: dtype of the matrix products: None is autocast's where it is on and x float32, else x's. bfloat16 (or
            float16) of float32 x rounds the factors of every product, in the backward too, and sums in float32; state,
            gates and results stay float32.

    Returns:
        Outputs, mean, first and last in x's dtype; of a 16-bit x computed in float32 and rounded once. Differentiable
        in x and the weights any number of times.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: shapes or devices that do not go together, a length outside [0, T], a dropout outside [0, 1).
    """
    check_inputs(x, weights, lengths, frames, num_layers, bidirectional, dropout)
    total = x.shape[1] if frames is None else frames
    check_length_values("gru", lengths, total)
    products = product_dtype(x, products)
    seed = draw_seed(x.device) if has_dropout(dropout, num_layers) else None
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    valid = (
        torch.ones(x.shape[0], total, dtype=torch.bool, device=x.device)
        if lengths is None
        else valid_frames(lengths, total)
    )
    inputs = (x if frames is None else x[:, None]).to(wide)
    inputs = torch.where(valid[:, : inputs.shape[1], None], inputs, 0)
    cells = split_weights([weight.to(wide) for weight in weights], num_layers, bidirectional)
    for layer, directions in enumerate(cells):
        if layer > 0 and seed is not None:
            inputs = inputs * keep_mask(inputs, layer - 1, seed, dropout) / (1 - dropout)
        inputs = torch.cat(
            [_run_direction(inputs, cell, valid, products, index == 1) for index, cell in enumerate(directions)], dim=2
        )
    return summarize(inputs, lengths, return_outputs, x.dtype)


def _run_direction(
    inputs: Tensor, cell: Sequence[Tensor], valid: Tensor, products: torch.dtype, is_reverse: bool
) -> Tensor:
    """Return the outputs (B, T, H) of one direction of one layer; inputs (B, T or 1, D)."""
    w_ih, w_hh, *biases = cell
    b_ih, b_hh = biases or (w_ih.new_zeros(()), w_hh.new_zeros(()))
    frames = valid.shape[1]
    projected = (_product(inputs.flatten(0, 1), w_ih.T, products) + b_ih).unflatten(0, inputs.shape[:2])
    projected = projected.expand(-1, frames, -1)
    state = inputs.new_zeros(len(inputs), w_hh.shape[1])
    outputs = [state] * frames
    for frame in reversed(range(frames)) if is_reverse else range(frames):
        input_r, input_z, input_n = projected[:, frame].chunk(3, dim=1)
        hidden_r, hidden_z, hidden_n = (_product(state, w_hh.T, products) + b_hh).chunk(3, dim=1)
        r, z = torch.sigmoid(input_r + hidden_r), torch.sigmoid(input_z + hidden_z)
        n = torch.tanh(input_n + r * hidden_n)
        state = torch.where(valid[:, frame, None], (1 - z) * n + z * state, state)
        outputs[frame] = torch.where(valid[:, frame, None], state, 0)
    return torch.stack(outputs, dim=1)


class _Product(torch.autograd.Function):
    """``a @ b`` with both factors rounded to ``dtype`` and the sums in theirs, as also in its gradients."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(a, b)
        ctx.dtype = dtype
        with _autocast_off(a.device):
            return a.to(dtype).to(a.dtype) @ b.to(dtype).to(b.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN401
        a, b = ctx.saved_tensors
        return _product(grad, b.T, ctx.dtype), _product(a.T, grad, ctx.dtype), None


def _product(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    product: Tensor = _Product.apply(a, b, dtype)  # type: ignore[no-untyped-call]
    return product


def _autocast_off(device: torch.device) -> torch.autocast | nullcontext[None]:
    has_autocast = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if has_autocast else nullcontext()


def summarize(outputs: Tensor, lengths: Tensor | None, return_outputs: bool, dtype: torch.dtype) -> GruOutput:
    """Return outputs (B, T, C), which are zero in the padding, with their mean, first and last, in ``dtype``."""
    frames = outputs.shape[1]
    total = outputs.sum(dim=1, dtype=torch.float64 if outputs.dtype == torch.float64 else torch.float32)
    if lengths is None:
        mean, last = total / frames, outputs[:, -1]
    else:
        counts = lengths.clamp(0, frames)[:, None]
        mean = total / counts.clamp(min=1)
        place = (counts - 1).clamp(min=0)[:, :, None].expand(-1, -1, outputs.shape[2])
        last = outputs.gather(1, place).squeeze(1)
    kept = outputs.to(dtype) if return_outputs else None
    return GruOutput(kept, mean.to(dtype), outputs[:, 0].to(dtype), last.to(dtype))


def has_dropout(dropout: float, num_layers: int) -> bool:
    """Return whether anything is dropped: a single layer has no layer to follow."""
    return dropout > 0 and num_layers > 1


def draw_seed(device: torch.device) -> Tensor:
    """Return the seed of the dropout masks, one int64 drawn from the device's default generator."""
    return torch.randint(2**63 - 1, (), device=device)


def keep_mask(outputs: Tensor, layer: int, seed: Tensor, dropout: float) -> Tensor:
    """Return which of a layer's outputs (B, T, C) dropout keeps, of the same shape.

    Unit u at frame t of clip b of layer l is kept iff word u % 4 of Philox's (u // 4, t, b, l) is at least dropout *
    2**32.
    """
    clips, frames, units = outputs.shape

    def count(size: int) -> Tensor:
        return torch.arange(size, device=outputs.device)

    counter = (count(-(-units // 4)), count(frames)[:, None], count(clips)[:, None, None], torch.full_like(seed, layer))
    words = torch.stack(philox(counter, seed), dim=-1).flatten(2)[:, :, :units]
    return words >= min(round(dropout * 2**32), 2**32 - 1)


def split_weights(weights: Sequence[Tensor], num_layers: int, bidirectional: bool) -> list[list[Sequence[Tensor]]]:
    """Return the weights of each direction of each layer: w_ih, w_hh and, where there are biases, b_ih, b_hh."""
    directions = 2 if bidirectional else 1
    size = len(weights) // (num_layers * directions)
    cells = [weights[start : start + size] for start in range(0, len(weights), size)]
    return [cells[start : start + directions] for start in range(0, len(cells), directions)]


def product_dtype(x: Tensor, products: torch.dtype | None) -> torch.dtype:
    """Return the dtype of the matrix products: what is asked for, else autocast's where it concerns x, else x's."""
    if products is None:
        kind = x.device.type
        is_cast = x.dtype == torch.float32 and torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        return torch.get_autocast_dtype(kind) if is_cast else x.dtype
    allowed = (x.dtype, *HALVES) if x.dtype == torch.float32 else (x.dtype,)
    if products not in allowed:
        raise TypeError(
            f"gru: products must be {' or '.join(map(dtype_name, allowed))} where x is {dtype_name(x.dtype)}, got "
            f"{dtype_name(products)}"
        )
    return products


def check_inputs(
    x: Tensor,
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    frames: int | None,
    num_layers: int,
    bidirectional: bool,
    dropout: float,
) -> None:
    """Raise for shapes, dtypes and devices that gru does not take; the values of tensors are not looked at."""
    if x.dtype not in DTYPES:
        raise TypeError(f"gru: x must be float32, float64, bfloat16 or float16, got {dtype_name(x.dtype)}")
    shape = list(x.shape)
    if frames is None and x.dim() != 3:
        raise ValueError(f"gru: x must have shape [B, T, D], or [B, D] where frames is given, got {shape}")
    if frames is not None and x.dim() != 2:
        raise ValueError(f"gru: x must have shape [B, D] where frames is given, got {shape}")
    total = x.shape[1] if frames is None else frames
    if total < 1 or shape[-1] < 1:
        raise ValueError(f"gru: T and D must be at least 1, got {total} and {shape[-1]}")
    if num_layers < 1:
        raise ValueError(f"gru: num_layers must be at least 1, got {num_layers}")
    if not 0 <= dropout < 1:
        raise ValueError(f"gru: dropout must be at least 0 and less than 1, got {dropout}")
    check_lengths("gru", lengths, x.shape[0], x.device)
    _check_weights(x, weights, num_layers, bidirectional)


def _check_weights(x: Tensor, weights: Sequence[Tensor], num_layers: int, bidirectional: bool) -> None:
    directions = 2 if bidirectional else 1
    pairs = num_layers * directions
    if len(weights) not in (2 * pairs, 4 * pairs):
        raise ValueError(
            f"gru: weights must be {4 * pairs} tensors, or {2 * pairs} without biases, where num_layers is "
            f"{num_layers} and bidirectional is {bidirectional}, got {len(weights)}"
        )
    dtypes = (x.dtype, torch.float32) if x.dtype in HALVES else (x.dtype,)
    if weights[0].dtype not in dtypes:
        raise TypeError(
            f"gru: weights must be {' or '.join(map(dtype_name, dtypes))} where x is {dtype_name(x.dtype)}, got "
            f"{dtype_name(weights[0].dtype)}"
        )
    size = max(1, weights[1].shape[-1]) if weights[1].dim() == 2 else 1
    for index, weight in enumerate(weights):
        layer, kind = divmod(index, len(weights) // num_layers)
        direction, kind = divmod(kind, len(weights) // pairs)
        name = f"{('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh')[kind]}_l{layer}{'_reverse' * direction}"
        width = x.shape[-1] if layer == 0 else directions * size
        expected = ([3 * size, width], [3 * size, size], [3 * size], [3 * size])[kind]
        if list(weight.shape) != expected:
            raise ValueError(f"gru: weights[{index}] ({name}) must have shape {expected}, got {list(weight.shape)}")
        if weight.dtype != weights[0].dtype:
            raise TypeError(
                f"gru: weights[{index}] ({name}) must be {dtype_name(weights[0].dtype)} like weights[0], got "
                f"{dtype_name(weight.dtype)}"
            )
        if weight.device != x.device:
            raise ValueError(f"gru: weights[{index}] ({name}) must be on {x.device}, got {weight.device}")
