"""Queue InfoNCE in plain PyTorch: the specification of ``crrl_fast.ops.queue_info_nce``."""

from __future__ import annotations

from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from crrl_fast.reference.checks import dtype_name

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
REDUCTIONS = ("none", "mean", "sum")  # in the order of torch's own enumeration
LARGEST_DIM = 1024


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
    filled: Tensor | None = ...,
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
    filled: Tensor | None = ...,
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
    filled: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Cross entropy of picking each query's own key among it and the K keys of the queue.

    ``F.cross_entropy(cat([(query * key).sum(1, keepdim=True), query @ queue.T], 1) / temperature, zeros)``; van den
    Oord et al., arXiv 1807.03748, with the queue of MoCo (He et al., CVPR 2020). Low precision is computed in float32.

    Args:
        query: (B, D) float32, float64, float16 or bfloat16; B at least 1, D from 1 to 1024.
        key: (B, D), row i is the positive of query i.
        queue: (K, D) negatives, K >= 0, without gradient. The dtypes of the three may differ, but either all are
            float64 or none.
        temperature: divides the logits.
        normalize: L2-normalise query and key first (the queue is taken as it is).
        reduction: ``mean``, ``sum`` or ``none``.
        return_accuracy: also return (2) float32: the share of rows whose positive is the largest logit, and among the
            five largest. A negative that equals the positive, up to the rounding of the products, ranks before it, so
            that a collapsed encoder scores 0.
        filled: one int64 on the queue's device: only the first so many keys of the queue count. Clamped to 0 to K.

    Returns:
        The loss, float32 (float64 of float64), a scalar or (B) for ``none``; with ``return_accuracy`` a pair (loss,
        accuracy). Differentiable in query and key.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: shapes or devices that do not go together, a queue that requires grad, an unknown reduction, or a
            temperature that is not positive.
    """
    check_inputs(query, key, queue, filled, temperature)
    check_usage(queue, reduction)
    precision = torch.float64 if query.dtype == torch.float64 else torch.float32
    tie_margin = 2e-3 if queue.dtype in (torch.float16, torch.bfloat16) else 1e-12 if precision.itemsize == 8 else 1e-5
    query, key, queue = query.to(precision), key.to(precision), queue.to(precision)
    if normalize:
        query, key = F.normalize(query, dim=1), F.normalize(key, dim=1)
    positive = (query * key).sum(dim=1, keepdim=True)
    negative = query @ queue.T
    if filled is not None:
        is_empty = torch.arange(len(queue), device=queue.device) >= filled
        # The keys themselves too: a product with what an empty slot holds may be NaN.
        negative = (query @ queue.masked_fill(is_empty[:, None], 0).T).masked_fill(is_empty, -torch.inf)
    logits = torch.cat([positive, negative], dim=1) / temperature
    target = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    loss = F.cross_entropy(logits, target, reduction=reduction)
    if not return_accuracy:
        return loss
    rank = (negative >= positive - tie_margin * positive.abs()).sum(dim=1)
    return loss, torch.stack([(rank < k).float().mean() for k in (1, 5)])


def check_inputs(query: Tensor, key: Tensor, queue: Tensor, filled: Tensor | None, temperature: float) -> None:
    """Raise for shapes, dtypes and devices that queue_info_nce does not take."""
    if query.dim() != 2 or query.shape[0] < 1:
        raise ValueError(
            f"queue_info_nce: query must have shape (B, D) with B at least 1, got shape {list(query.shape)}"
        )
    dim = query.shape[1]
    if not 1 <= dim <= LARGEST_DIM:
        raise ValueError(f"queue_info_nce: D must be from 1 to {LARGEST_DIM}, got {dim}")
    if key.shape != query.shape:
        raise ValueError(
            f"queue_info_nce: key must have the shape of query, {list(query.shape)}, got {list(key.shape)}"
        )
    if queue.dim() != 2 or queue.shape[1] != dim:
        raise ValueError(f"queue_info_nce: queue must have shape (K, {dim}), got {list(queue.shape)}")
    for name, tensor in (("query", query), ("key", key), ("queue", queue)):
        if tensor.dtype not in DTYPES:
            raise TypeError(
                f"queue_info_nce: {name} must be float32, float64, float16 or bfloat16, got {dtype_name(tensor.dtype)}"
            )
    if len({tensor.dtype == torch.float64 for tensor in (query, key, queue)}) != 1:
        raise TypeError(
            "queue_info_nce: query, key and queue must all be float64 or none, got "
            f"{dtype_name(query.dtype)}, {dtype_name(key.dtype)} and {dtype_name(queue.dtype)}"
        )
    if not key.device == queue.device == query.device:
        raise ValueError(
            f"queue_info_nce: key and queue must be on query's device, {query.device}, got {key.device} and "
            f"{queue.device}"
        )
    if not temperature > 0:
        raise ValueError(f"queue_info_nce: temperature must be greater than 0, got {temperature}")
    if filled is None:
        return
    if filled.dtype != torch.int64:
        raise TypeError(f"queue_info_nce: filled must be int64, got {dtype_name(filled.dtype)}")
    if filled.numel() != 1 or filled.device != query.device:
        raise ValueError(
            f"queue_info_nce: filled must be a single number on {query.device}, got shape {list(filled.shape)} on "
            f"{filled.device}"
        )


def check_usage(queue: Tensor, reduction: str) -> None:
    """Raise for what only the Python functions see: a reduction that does not exist, a queue that wants a gradient."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"queue_info_nce: reduction must be mean, sum or none, got {reduction!r}")
    if queue.requires_grad:
        raise ValueError("queue_info_nce: the queue requires grad, but negatives get none; pass queue.detach()")
