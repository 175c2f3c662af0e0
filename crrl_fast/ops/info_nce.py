"""Contrast of a batch with a queue of past keys, in one pass over the queue."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from crrl_fast import _ext
from crrl_fast.reference import queue_info_nce as reference
from crrl_fast.reference.info_nce import REDUCTIONS, check_inputs, check_usage

Results = tuple[Tensor, Tensor, Tensor, Tensor]


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
    Oord et al., arXiv 1807.03748, with the queue of MoCo (He et al., CVPR 2020). The (B, K) logits never exist: one
    pass over the queue forms the loss and its gradient, and keeps nothing of the queue, which may be overwritten before
    the backward. The same inputs give the same bits, on the CPU with any number of threads.

    Args:
        query: (B, D) float32, float64, float16 or bfloat16; B at least 1, D from 1 to 1024.
        key: (B, D), row i is the positive of query i.
        queue: (K, D) negatives, K >= 0, without gradient. The dtypes of the three may differ, but either all are
            float64 or none. A bfloat16 queue, and on a GPU a float16 one, makes the products run in that type, with
            sums in float32. Keys may be strided, their numbers not: a transposed queue is copied.
        temperature: divides the logits.
        normalize: L2-normalise query and key first (the queue is taken as it is).
        reduction: ``mean``, ``sum`` or ``none``.
        return_accuracy: also return (2) float32: the share of rows whose positive is the largest logit, and among the
            five largest. A negative that equals the positive, up to the rounding of the products, ranks before it, so
            that a collapsed encoder scores 0.
        filled: one int64 on the queue's device: only the first so many keys of the queue count. Clamped to 0 to K.

    Returns:
        The loss, float32 (float64 of float64), a scalar or (B) for ``none``; with ``return_accuracy`` a pair (loss,
        accuracy). Differentiable once, in query and key.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: shapes or devices that do not go together, a queue that requires grad, an unknown reduction, or a
            temperature that is not positive.
    """
    check_usage(queue, reduction)
    is_double_off_cpu = query.dtype == torch.float64 and query.device.type != "cpu"
    if query.device.type not in _ext.device_types or is_double_off_cpu:
        check_inputs(query, key, queue, filled, temperature)
        loss, accuracy = reference(
            query,
            key,
            queue,
            temperature,
            normalize=normalize,
            reduction=reduction,
            return_accuracy=True,
            filled=filled,
        )
        return (loss, accuracy) if return_accuracy else loss
    with_grad = torch.is_grad_enabled()
    loss, hits, _, _ = torch.ops.crrl_fast.queue_info_nce(
        query,
        key,
        queue,
        filled,
        temperature,
        normalize,
        REDUCTIONS.index(reduction),
        with_grad and query.requires_grad,
        with_grad and key.requires_grad,
    )
    return (loss, hits.mean(dim=0)) if return_accuracy else loss


def _fake(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    filled: Tensor | None,
    temperature: float,
    normalize: bool,
    reduction: int,
    query_grad: bool,
    key_grad: bool,
) -> Results:
    check_inputs(query, key, queue, filled, temperature)
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    return (
        query.new_empty(query.shape[:1] if REDUCTIONS[reduction] == "none" else (), dtype=dtype),
        query.new_empty((query.shape[0], 2), dtype=torch.float32),
        query.new_empty(query.shape if query_grad else (0,), dtype=dtype),
        query.new_empty(query.shape if key_grad else (0,), dtype=dtype),
    )


if _ext.available:
    torch.library.register_fake("crrl_fast::queue_info_nce", _fake)
