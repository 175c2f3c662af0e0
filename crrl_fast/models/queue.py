"""The queue of past keys that serve as negatives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MomentumQueue(nn.Module):
    """A ring of the last ``size`` keys; ``keys`` and ``cursor`` are persistent buffers, so checkpoints hold them.

    It starts full of random unit vectors, as in MoCo.

    Args:
        size: number of keys K, at least 0.
        dim: size D of a key.
        dtype: of the stored keys.
    """

    keys: Tensor
    cursor: Tensor

    def __init__(self, size: int, dim: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, dim), dim=1).to(dtype))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Overwrite the oldest keys with ``keys`` (B, D), wrapping at any B; nothing is read back to the host."""
        size = len(self.keys)
        if size == 0:
            return
        kept = keys[-size:]  # a batch larger than the queue leaves its newest keys
        slots = (self.cursor + len(keys) - len(kept) + torch.arange(len(kept), device=keys.device)) % size
        self.keys.index_copy_(0, slots, kept.to(self.keys.dtype))
        self.cursor.copy_((self.cursor + len(keys)) % size)
