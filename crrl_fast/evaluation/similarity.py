"""Cosine similarity of clip features, of one encoder or of several fused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from crrl_fast.evaluation.features import FeatureSet

# Similarities that are held at a time: 32 MiB of them in float32, and some 15 times that while they are ranked.
_ENTRIES = 2**23


def unit_features(features: Sequence[FeatureSet], weights: Sequence[float]) -> FeatureSet:
    """Return features whose inner products are the weighted mean of the cosine similarities of ``features``.

    Each set is scaled to length 1 and by the root of its weight's share, and they are put side by side.
    """
    shares = [(weight / sum(weights)) ** 0.5 for weight in weights]

    def side_by_side(parts: list[Tensor]) -> Tensor:
        return torch.cat([share * F.normalize(part, dim=1) for share, part in zip(shares, parts, strict=True)], dim=1)

    return replace(
        features[0],
        train=side_by_side([one.train for one in features]),
        test=side_by_side([one.test for one in features]),
    )


def similarities(queries: Tensor, gallery: Tensor) -> Iterator[Tensor]:
    """Yield the inner products (q, N) of some ``queries`` (Q, C) at a time with the whole ``gallery`` (N, C), in order.

    Memory is bounded: NTU-60's 16,487 queries against 40,091 clips come 209 at a time.
    """
    for chunk in queries.split(max(1, _ENTRIES // len(gallery))):
        yield chunk @ gallery.T


def nearest(similarity: Tensor, k: int) -> Tensor:
    """Return the positions (Q, k) of the highest ``similarity`` (Q, N) of each row; of equals the first comes first."""
    if k == 1:
        return similarity.argmax(dim=1, keepdim=True)
    return _keys(similarity).topk(k, dim=1, largest=False).indices


def ranking(similarity: Tensor) -> Tensor:
    """Return the positions (Q, N) from the highest ``similarity`` (Q, N) of each row to the lowest; equals in order."""
    keys = _keys(similarity)
    if keys.is_cpu:
        keys.numpy().sort(axis=1)  # NumPy sorts integers with the processor's vectors, several times as fast as torch
    else:
        keys = keys.sort(dim=1).values
    return keys & 0xFFFFFFFF


def _keys(similarity: Tensor) -> Tensor:
    """Return int64 keys that rise as float32 ``similarity`` (Q, N) falls, and with the position where it is equal.

    No two keys of a row are equal, so that any way to sort them gives the same order; the position is their lower half.
    """
    bits = (similarity + 0.0).view(torch.int32)  # 0 and -0 are equal, but not in their bits
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # the bits of negative floats count downwards
    position = torch.arange(similarity.shape[1], device=similarity.device)
    return position - (ordered.long() << 32)
