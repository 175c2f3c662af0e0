"""Clips of different lengths in one padded batch (B, T, ...)."""

from __future__ import annotations

import torch
from torch import Tensor


def valid_frames(lengths: Tensor, frames: int) -> Tensor:
    """Return (B, frames) bool: which frames are not padding. lengths: (B) int64."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def reverse_time(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each clip's valid frames and leave its padding in place.

    Args:
        x: (B, T, D).
        lengths: (B) int64 on the same device.
    """
    time = torch.arange(x.shape[1], device=x.device)
    source = torch.where(time < lengths[:, None], lengths[:, None] - 1 - time, time)
    return x.gather(1, source[:, :, None].expand_as(x))
