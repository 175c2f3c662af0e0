"""The recurrent part of a GRU layer in one kernel that keeps the recurrent weights on the chip. CUDA only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crrl_fast import _ext
from crrl_fast.reference.gru_scan import check_inputs
from crrl_fast.reference.gru_scan import gru_scan as reference

WEIGHT_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""That the kernels' matrix products take."""
LARGEST_IN_A_BLOCK = 128
LARGEST_IN_A_CLUSTER = 256
"""Units of a direction, as csrc/gru_scan.h has them."""
HOPPER_SHARED_BYTES = 227 << 10
"""That a block of compute capability 9.0 can have."""


def gru_scan_supported(hidden_size: int, dtype: torch.dtype, device: torch.device | str) -> bool:
    """Tell whether the kernels of ``gru_scan`` run a layer on a device.

    They keep the recurrent weights of one direction in the registers and shared memory of one multiprocessor, or of a
    cluster of four. That makes 128 units a direction on GPUs since Ampere, and 256 where there are clusters and as much
    shared memory as on Hopper.

    Args:
        hidden_size: units of one direction.
        dtype: of w_hh.
        device: any; False for all but CUDA devices.
    """
    device = torch.device(device)
    if device.type != "cuda" or "cuda" not in _ext.device_types or dtype not in WEIGHT_DTYPES:
        return False
    gpu = torch.cuda.get_device_properties(device)
    shared = getattr(gpu, "shared_memory_per_block_optin", 0)  # torch's stubs lack it
    has_clusters = gpu.major >= 9 and shared >= HOPPER_SHARED_BYTES
    largest = LARGEST_IN_A_CLUSTER if has_clusters else LARGEST_IN_A_BLOCK
    return bool(gpu.major >= 8 and hidden_size <= largest)


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
    is never used: NaN there stays out of the result and of the gradient. Nothing is synchronised, a CUDA graph can
    capture the call, and the same inputs give the same bits. Off CUDA, and in float64, the plain-PyTorch reference
    runs.

    Args:
        projected: (B, T, directions, 3 hidden), ``w_ih x + b_ih``; or (B, 1, ...) with ``frames``, the projection of
            an input that is the same at every frame. Of w_hh's dtype, or float32 where that is a half-precision one.
        w_hh: (directions, 3 hidden, hidden) float32, float64, float16 or bfloat16, with 1 or 2 directions. The products
            are of this dtype: the state is rounded to it. What the backward keeps and its products are of it too.
        b_hh: (directions, 3 hidden) floating. None: 0.
        lengths: (B) int64, the number of valid frames of each clip, 0 to T, on projected's device. None: all T. Only on
            the CPU are the values checked; elsewhere that would cost a synchronisation, and they are clamped instead.
        frames: T, where projected has one frame.

    Returns:
        The states, (B, T, directions, hidden) of projected's dtype, 0 in the padding. Differentiable once in projected,
        w_hh and b_hh. Sums, gates and state are float32, or float64 of float64.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: shapes or devices that do not go together; on CUDA, a layer that ``gru_scan_supported`` denies; on
            the CPU, a length outside [0, T].
    """
    if projected.device.type != "cuda" or "cuda" not in _ext.device_types or w_hh.dtype == torch.float64:
        return reference(projected, w_hh, b_hh, lengths, frames=frames)
    check_inputs(projected, w_hh, b_hh, lengths, frames)
    with_grad = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (projected, w_hh, b_hh)
    )
    frames = projected.shape[1] if frames is None else frames
    outputs: Tensor = torch.ops.crrl_fast.gru_scan(projected, w_hh, b_hh, lengths, frames, with_grad)[0]
    return outputs


def _fake(
    projected: Tensor, w_hh: Tensor, b_hh: Tensor | None, lengths: Tensor | None, frames: int, with_grad: bool
) -> tuple[Tensor, Tensor]:
    check_inputs(projected, w_hh, b_hh, lengths, frames)
    clips, _, directions, columns = projected.shape
    hidden = columns // 3
    gates = (clips, frames, directions, 4 * hidden) if with_grad else (0,)
    return projected.new_empty((clips, frames, directions, hidden)), w_hh.new_empty(gates)


def _fake_backward(
    grad_outputs: Tensor, w_hh: Tensor, lengths: Tensor | None, outputs: Tensor, gates: Tensor
) -> tuple[Tensor, Tensor]:
    clips, frames, directions, hidden = grad_outputs.shape
    shape = (clips, frames, directions, 3 * hidden)
    return grad_outputs.new_empty(shape), w_hh.new_empty(shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401
    projected, w_hh, b_hh, lengths, frames, _ = inputs
    ctx.set_materialize_grads(False)  # zeros for the gates, which nothing differentiates, would be large
    ctx.save_for_backward(w_hh, b_hh, lengths, *output)
    ctx.constant_input = projected.shape[1] != frames


def _backward(ctx: Any, grad_outputs: Tensor | None, grad_gates: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    w_hh, b_hh, lengths, outputs, gates = ctx.saved_tensors
    if grad_outputs is None:
        return (None,) * 6
    grad_projected, grad_recurrent = torch.ops.crrl_fast.gru_scan_backward(grad_outputs, w_hh, lengths, outputs, gates)
    grad_w_hh = grad_b_hh = None
    if ctx.constant_input:
        grad_projected = grad_projected.sum(dim=1, keepdim=True)
    if ctx.needs_input_grad[1]:
        before = _states_before(outputs).to(w_hh.dtype)
        grad_w_hh = torch.einsum("btdi,btdh->dih", grad_recurrent, before)
    if ctx.needs_input_grad[2]:
        grad_b_hh = grad_recurrent.sum(dim=(0, 1), dtype=torch.float32).to(b_hh.dtype)
    return grad_projected, grad_w_hh, grad_b_hh, None, None, None


def _states_before(outputs: Tensor) -> Tensor:
    """Return the state that each step (B, T, directions, hidden) began with, but for the padding."""
    start = torch.zeros_like(outputs[:, :1, :1])
    before = [torch.cat([start, outputs[:, :-1, :1]], dim=1)]
    if outputs.shape[2] == 2:
        before.append(torch.cat([outputs[:, 1:, 1:], start], dim=1))
    return torch.cat(before, dim=2)


def _refuse(*_: object) -> tuple[None, ...]:
    raise RuntimeError(
        "gru_scan is differentiable once; for second derivatives use crrl_fast.reference.gru_scan, or float64"
    )


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401
    pass


if _ext.available:
    torch.library.register_fake("crrl_fast::gru_scan", _fake)
    torch.library.register_autograd("crrl_fast::gru_scan", _backward, setup_context=_setup_context)
    torch.library.register_fake("crrl_fast::gru_scan_backward", _fake_backward)
    torch.library.register_autograd("crrl_fast::gru_scan_backward", _refuse, setup_context=_keep_nothing)
