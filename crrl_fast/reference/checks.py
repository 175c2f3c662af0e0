"""Argument checks that the ops share; the compiled ones are in csrc/checks.h."""

from __future__ import annotations

import torch
from torch import Tensor


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name as a user writes it: float32."""
    return str(dtype).removeprefix("torch.")


def check_lengths(op: str, lengths: Tensor | None, clips: int, device: torch.device) -> None:
    """Raise where lengths are not (clips) int64 on the device; values are not looked at."""
    if lengths is None:
        return
    if lengths.dtype != torch.int64:
        raise TypeError(f"{op}: lengths must be int64, got {dtype_name(lengths.dtype)}")
    if lengths.dim() != 1 or lengths.shape[0] != clips:
        raise ValueError(f"{op}: lengths must have shape [{clips}], got {list(lengths.shape)}")
    if lengths.device != device:
        raise ValueError(f"{op}: lengths must be on {device}, got {lengths.device}")


def check_length_values(op: str, lengths: Tensor | None, frames: int) -> None:
    """Raise for a length outside [0, frames], on the CPU only: elsewhere a look would cost a synchronisation."""
    # A compiled graph cannot raise on values.
    if lengths is None or lengths.device.type != "cpu" or torch.compiler.is_compiling():
        return
    for clip, length in enumerate(lengths.tolist()):
        if not 0 <= length <= frames:
            raise ValueError(f"{op}: lengths[{clip}] = {length} is outside [0, {frames}]")
