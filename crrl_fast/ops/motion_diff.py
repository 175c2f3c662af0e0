"""Velocity of a batch of clips in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crrl_fast import _ext
from crrl_fast.reference import motion_diff as reference
from crrl_fast.reference.motion_diff import check_inputs


def motion_diff(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Velocity of each clip: ``y[b, t] = x[b, t+1] - x[b, t]``, and 0 at the last valid frame and in the padding.

    The motion that CRRL's key encoder sees (Wang et al., IEEE TIP 2022, arXiv 2111.11051). Without lengths it is
    ``torch.cat([x[:, 1:] - x[:, :-1], torch.zeros_like(x[:, :1])], 1)``. What lies in the padding is never used: NaN
    there stays out of the result and of the gradient. A view whose trailing dimensions are contiguous is read in place.

    Args:
        x: (B, T, ...) float32, float64, float16 or bfloat16; B and T may be 0.
        lengths: (B) int64, the number of valid frames of each clip, 0 to T, on the device of x. None: all T. Only on
            the CPU are the values checked; elsewhere that would cost a synchronisation, and they are clamped instead.

    Returns:
        A contiguous tensor of x's shape and dtype, differentiable in x any number of times. Low precision is computed
        in float32 and rounded once.

    Raises:
        TypeError: x or lengths has another dtype.
        ValueError: x has fewer than 2 dimensions; lengths has another shape or device, or a value outside [0, T].
    """
    if x.device.type not in _ext.device_types:
        return reference(x, lengths)
    velocity: Tensor = torch.ops.crrl_fast.motion_diff(x, lengths)
    return velocity


def _fake(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    check_inputs(x, lengths)
    return x.new_empty(x.shape)


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor | None], output: Tensor) -> None:  # noqa: ANN401
    ctx.save_for_backward(inputs[1])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
    (lengths,) = ctx.saved_tensors
    return torch.ops.crrl_fast.motion_diff_backward(grad, lengths), None


def _double_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
    """The backward is linear, the transpose of motion_diff; so its own gradient is motion_diff."""
    (lengths,) = ctx.saved_tensors
    return torch.ops.crrl_fast.motion_diff(grad, lengths), None


if _ext.available:
    for _op, _gradient in (("motion_diff", _backward), ("motion_diff_backward", _double_backward)):
        torch.library.register_fake(f"crrl_fast::{_op}", _fake)
        torch.library.register_autograd(f"crrl_fast::{_op}", _gradient, setup_context=_setup_context)
