"""The order in which an epoch visits its clips, made on the host."""

from __future__ import annotations

import torch
from torch import Tensor


def bucketed_order(order: Tensor, lengths: Tensor, batch_size: int, buckets: int, generator: torch.Generator) -> Tensor:
    """Rearrange a random order so that each batch holds clips of similar length.

    Each ``buckets * batch_size`` clips of the order are sorted by length and cut into batches, and then all batches are
    shuffled. The clips that do not fill a batch stay last and unsorted, as a fair draw from all. Clips of one batch
    therefore have correlated lengths, and so have the batches' keys in a contrast's queue.

    Args:
        order: (N) int64, a random permutation.
        lengths: (N) int64, frames of each clip.
        batch_size: clips a batch.
        buckets: batches that are cut from one sorted run; 1 sorts nothing across batches.
        generator: of the order of the batches.
    """
    whole = len(order) // batch_size * batch_size
    filled, rest = order[:whole], order[whole:]
    run = torch.arange(whole) // (buckets * batch_size)
    by_length = lengths[filled].argsort(stable=True)
    sorted_runs = by_length[run[by_length].argsort(stable=True)]
    batches = filled[sorted_runs].view(-1, batch_size)
    shuffled = batches[torch.randperm(len(batches), generator=generator)]
    return torch.cat([shuffled.flatten(), rest])
