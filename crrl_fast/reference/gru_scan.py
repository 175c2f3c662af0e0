"""The recurrent part of a GRU layer in plain PyTorch: the specification of ``crrl_fast.ops.gru_scan``."""

from __future__ import annotations

import torch
from torch import Tensor

from crrl_fast.padding import reverse_time, valid_frames
from crrl_fast.reference.checks import check_length_values, check_lengths, dtype_name

WEIGHT_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_inputs(
    projected: Tensor, w_hh: Tensor, b_hh: Tensor | None, lengths: Tensor | None, frames: int | None
) -> None:
    """Raise for shapes, dtypes and devices that gru_scan does not take; values are not looked at."""
    if w_hh.dim() != 3 or w_hh.shape[0] not in (1, 2) or w_hh.shape[1] != 3 * w_hh.shape[2] or w_hh.shape[2] == 0:
        raise ValueError(
            f"gru_scan: w_hh must have shape (directions, 3 hidden, hidden), 1 or 2 directions, got {list(w_hh.shape)}"
        )
    directions, columns, _ = w_hh.shape
    if w_hh.dtype not in WEIGHT_DTYPES:
        raise TypeError(f"gru_scan: w_hh must be float32, float64, float16 or bfloat16, got {dtype_name(w_hh.dtype)}")
    if projected.dim() != 4 or projected.shape[2:] != (directions, columns):
        raise ValueError(
            f"gru_scan: projected must have shape (B, T, {directions}, {columns}), got {list(projected.shape)}"
        )
    if projected.dtype not in (w_hh.dtype, torch.promote_types(w_hh.dtype, torch.float32)):
        raise TypeError(
            f"gru_scan: projected must be of w_hh's dtype, {dtype_name(w_hh.dtype)}, or float32 beside a "
            f"half-precision one, got {dtype_name(projected.dtype)}"
        )
    if frames is not None and (frames < 0 or projected.shape[1] not in (1, frames)):
        raise ValueError(f"gru_scan: projected must have 1 frame or frames = {frames}, got {projected.shape[1]}")
    if b_hh is not None and (b_hh.shape != w_hh.shape[:2] or not b_hh.dtype.is_floating_point):
        raise ValueError(
            f"gru_scan: b_hh must be floating, of shape [{directions}, {columns}], got {dtype_name(b_hh.dtype)} of "
            f"shape {list(b_hh.shape)}"
        )
    check_lengths("gru_scan", lengths, len(projected), projected.device)
    for name, tensor in (("w_hh", w_hh), ("b_hh", b_hh)):
        if tensor is not None and tensor.device != projected.device:
            raise ValueError(f"gru_scan: {name} must be on {projected.device}, got {tensor.device}")


def gru_scan(
    projected: Tensor,
    w_hh: Tensor,
    b_hh: Tensor | None = None,
    lengths: Tensor | None = None,
    *,
    frames: int | None = None,
) -> Tensor:
    """Run one layer of a GRU along time, given the input's part of the gates' sums.

    With ``p`` a frame of ``projected`` and ``a = w_hh h + b_hh``, cut into r, z and n as in ``torch.nn.GRU``::

        r = sigmoid(p_r + a_r)    z = sigmoid(p_z + a_z)    n = tanh(p_n + r a_n)    h = (1 - z) n + z h

    The state h starts at 0. Direction 1 runs from each clip's last valid frame to its first. What lies in the padding
    is never used: NaN there stays out of the result and of the gradient.

    Args:
        projected: (B, T, directions, 3 hidden), ``w_ih x + b_ih``; or (B, 1, ...) with ``frames``, the projection of
            an input that is the same at every frame. Of w_hh's dtype, or float32 where that is a half-precision one.
        w_hh: (directions, 3 hidden, hidden) float32, float64, float16 or bfloat16, with 1 or 2 directions. The products
            are of this dtype: the state is rounded to it.
        b_hh: (directions, 3 hidden) floating. None: 0.
        lengths: (B) int64, the number of valid frames of each clip, 0 to T. None: all T. Only on the CPU are the values
            checked; elsewhere that would cost a synchronisation, and they are clamped instead.
        frames: T, where projected has one frame.

    Returns:
        The states, (B, T, directions, hidden) of projected's dtype, 0 in the padding. Differentiable in projected, w_hh
        and b_hh. Sums, gates and state are float32, or float64 of float64.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: shapes or devices that do not go together, or a length outside [0, T].
    """
    check_inputs(projected, w_hh, b_hh, lengths, frames)
    clips, given, directions, columns = projected.shape
    frames = given if frames is None else frames
    wide = torch.promote_types(w_hh.dtype, torch.float32)
    check_length_values("gru_scan", lengths, frames)
    lengths = torch.full((clips,), frames, device=projected.device) if lengths is None else lengths
    valid = valid_frames(lengths, frames)[..., None]
    bias = projected.new_zeros(directions, columns, dtype=wide) if b_hh is None else b_hh.to(wide)
    states = []
    for direction in range(directions):
        steps = projected[:, :, direction].to(wide).expand(clips, frames, columns)
        steps = steps if direction == 0 else reverse_time(steps, lengths)
        steps = torch.where(valid, steps, torch.zeros_like(steps))
        state = _scan(steps, w_hh[direction], bias[direction])
        state = torch.where(valid, state, torch.zeros_like(state))
        states.append(state if direction == 0 else reverse_time(state, lengths))
    return torch.stack(states, dim=2).to(projected.dtype)


def _scan(steps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the states (B, T, hidden) of one direction, whose steps (B, T, 3 hidden) are in its order."""
    hidden = weight.shape[1]
    state = steps.new_zeros(steps.shape[0], hidden)
    states = [state]
    for step in steps.unbind(dim=1):
        recurrent = state.to(weight.dtype).to(steps.dtype) @ weight.to(steps.dtype).T + bias
        r, z = (step[:, : 2 * hidden] + recurrent[:, : 2 * hidden]).sigmoid().chunk(2, dim=1)
        n = torch.tanh(step[:, 2 * hidden :] + r * recurrent[:, 2 * hidden :])
        state = (1 - z) * n + z * state
        states.append(state)
    return torch.stack(states, dim=1)[:, 1:]
