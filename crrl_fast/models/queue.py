"""The queue of past keys that serve as negatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class MomentumQueue(nn.Module):
    """A ring of the last ``size`` keys, the negatives of MoCo (He et al., CVPR 2020).

    ``keys`` (size, dim), ``cursor`` (the slot of the next key) and ``filled`` (how many slots count) are persistent
    buffers, so checkpoints hold them. Use it as ``queue_info_nce(query, key, queue.keys, filled=queue.filled)``; that
    keeps nothing of the queue for the backward, so the batch's keys may enter right after it.

    Args:
        size: number of keys K, at least 0.
        dim: numbers D of a key, at least 1.
        dtype: of the stored keys: float32; bfloat16 for half the memory and faster products; float16 or float64.
        start: ``random`` fills it with random unit vectors, as MoCo does; ``empty`` lets only enqueued keys count.
        generator: draws the random start. Under ``torch.distributed`` all ranks must draw the same one.

    Raises:
        ValueError: a size, dimension, dtype or start that is not taken.
    """

    keys: Tensor
    cursor: Tensor
    filled: Tensor

    def __init__(
        self,
        size: int,
        dim: int,
        dtype: torch.dtype = torch.float32,
        *,
        start: Literal["random", "empty"] = "random",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if size < 0 or dim < 1:
            raise ValueError(f"MomentumQueue: size must be at least 0 and dim at least 1, got {size} and {dim}")
        if dtype not in DTYPES:
            raise ValueError(f"MomentumQueue: dtype must be float32, bfloat16, float16 or float64, got {dtype}")
        if start not in ("random", "empty"):
            raise ValueError(f"MomentumQueue: start must be random or empty, got {start!r}")
        is_empty = start == "empty"
        keys = torch.zeros(size, dim) if is_empty else F.normalize(torch.randn(size, dim, generator=generator), dim=1)
        self.register_buffer("keys", keys.to(dtype))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.tensor(0 if is_empty else size))

    @torch.no_grad()
    def enqueue(self, keys: Tensor, counts: Sequence[int] | None = None) -> None:
        """Overwrite the oldest keys, wrapping at any B; nothing is read back to the host, so a CUDA graph can hold it.

        Under ``torch.distributed`` the keys of all ranks enter, in the order of the ranks, so that every rank keeps the
        same queue.

        Args:
            keys: (B, dim) of any floating dtype, on the queue's device.
            counts: how many of its first keys each rank gives; None: all, and B is the same on all ranks. One number
                alone: the keys of this rank are those of all.

        Raises:
            ValueError: keys have another shape.
        """
        size, dim = self.keys.shape
        if keys.dim() != 2 or keys.shape[1] != dim:
            raise ValueError(f"MomentumQueue: keys must have shape (B, {dim}), got {list(keys.shape)}")
        if size == 0:
            return
        keys = _gather(keys.to(self.keys.dtype), counts)
        kept = keys[-size:]  # a batch larger than the queue leaves its newest keys
        slots = (self.cursor + len(keys) - len(kept) + torch.arange(len(kept), device=keys.device)) % size
        self.keys.index_copy_(0, slots, kept)
        self.cursor.copy_((self.cursor + len(keys)) % size)
        self.filled.copy_((self.filled + len(keys)).clamp(max=size))


def _gather(keys: Tensor, counts: Sequence[int] | None) -> Tensor:
    if counts is not None and len(counts) == 1:
        return keys[: counts[0]]
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return keys
    counts = counts or (len(keys),) * dist.get_world_size()
    most = max(counts)  # gloo gathers as many of everyone
    own = keys[: counts[dist.get_rank()]]
    parts = [keys.new_empty(most, keys.shape[1]) for _ in counts]
    dist.all_gather(parts, F.pad(own, (0, 0, 0, most - len(own))).contiguous())
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
