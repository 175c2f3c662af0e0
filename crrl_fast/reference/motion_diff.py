"""Velocity of a batch of clips in plain PyTorch: the specification of ``crrl_fast.ops.motion_diff``."""

from __future__ import annotations

import torch
from torch import Tensor

from crrl_fast.reference.checks import check_length_values, check_lengths, dtype_name

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_inputs(x: Tensor, lengths: Tensor | None) -> None:
    """Raise for shapes, dtypes and devices that motion_diff does not take; values are not looked at."""
    if x.dim() < 2:
        raise ValueError(f"motion_diff: x must have at least 2 dimensions (B, T, ...), got shape {list(x.shape)}")
    if x.dtype not in DTYPES:
        raise TypeError(f"motion_diff: x must be float32, float64, float16 or bfloat16, got {dtype_name(x.dtype)}")
    check_lengths("motion_diff", lengths, x.shape[0], x.device)


def motion_diff(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Velocity of each clip: ``y[b, t] = x[b, t+1] - x[b, t]``, and 0 at the last valid frame and in the padding.

    The motion that CRRL's key encoder sees (Wang et al., IEEE TIP 2022, arXiv 2111.11051). Without lengths it is
    ``torch.cat([x[:, 1:] - x[:, :-1], torch.zeros_like(x[:, :1])], 1)``. What lies in the padding is never used: NaN
    there stays out of the result and of the gradient.

    Args:
        x: (B, T, ...) float32, float64, float16 or bfloat16; B and T may be 0.
        lengths: (B) int64, the number of valid frames of each clip, 0 to T, on the device of x. None: all T. Only on
            the CPU are the values checked; elsewhere that would cost a synchronisation, and they are clamped instead.

    Returns:
        A contiguous tensor of x's shape and dtype, differentiable in x. Low precision is computed in float32 and
        rounded once.

    Raises:
        TypeError: x or lengths has another dtype.
        ValueError: x has fewer than 2 dimensions; lengths has another shape or device, or a value outside [0, T].
    """
    check_inputs(x, lengths)
    velocity = torch.cat([x[:, 1:] - x[:, :-1], torch.zeros_like(x[:, :1])], dim=1)
    if lengths is None:
        return velocity.contiguous()
    frames = x.shape[1]
    check_length_values("motion_diff", lengths, frames)
    moves = torch.arange(frames, device=x.device) < lengths.clamp(0, frames)[:, None] - 1
    moves = moves.reshape(moves.shape + (1,) * (x.dim() - 2))
    return torch.where(moves, velocity, torch.zeros_like(velocity)).contiguous()
