"""Queue InfoNCE in plain PyTorch: the specification of the loss that contrasts queries with their keys and a queue."""

from __future__ import annotations

from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor


@overload
def queue_info_nce(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float = ...,
    *,
    normalize: bool = ...,
    reduction: str = ...,
    return_accuracy: Literal[False] = ...,
) -> Tensor: ...
@overload
def queue_info_nce(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float = ...,
    *,
    normalize: bool = ...,
    reduction: str = ...,
    return_accuracy: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def queue_info_nce(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float = 0.07,
    *,
    normalize: bool = False,
    reduction: str = "mean",
    return_accuracy: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Cross entropy of picking each query's own key among it and the K keys of the queue.

    ``F.cross_entropy(cat([(query * key).sum(1, keepdim=True), query @ queue.T], 1) / temperature, zeros)``; van den
    Oord et al., arXiv 1807.03748, with the queue of MoCo (He et al., CVPR 2020).

    Args:
        query: (B, D) floating.
        key: (B, D), row i is the positive of query i.
        queue: (K, D) negatives, K >= 0; converted to the query's dtype.
        temperature: divides the logits.
        normalize: L2-normalise query and key first (the queue is taken as it is).
        reduction: ``mean``, ``sum`` or ``none``.
        return_accuracy: also return (2) float: the share of rows whose positive is the largest logit, and among the
            five largest. A negative that ties with the positive ranks before it, so a collapsed encoder scores 0.

    Returns:
        The loss, a scalar or (B) for ``none``; with ``return_accuracy`` a pair (loss, accuracy).

    Raises:
        ValueError: unknown reduction, or a temperature that is not positive.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be mean, sum or none, got {reduction!r}")
    if not temperature > 0:
        raise ValueError(f"temperature must be greater than 0, got {temperature}")
    if normalize:
        query, key = F.normalize(query, dim=1), F.normalize(key, dim=1)
    positive = (query * key).sum(dim=1, keepdim=True)
    negative = query @ queue.to(query.dtype).T
    logits = torch.cat([positive, negative], dim=1) / temperature
    target = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    loss = F.cross_entropy(logits, target, reduction=reduction)
    if not return_accuracy:
        return loss
    rank = (negative >= positive).sum(dim=1)
    return loss, torch.stack([(rank < k).float().mean() for k in (1, 5)])
