"""Cosine similarity of clip features, of one encoder or of several fused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from crrl_fast.evaluation.features import FeatureSet

# Similarities that are held at a time: 64 MiB of them in float32, and several times that while they are ranked.
_ENTRIES = 2**24


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

    Memory is bounded: NTU-60's 16,487 queries against 40,091 clips come 418 at a time.
    """
    for chunk in queries.split(max(1, _ENTRIES // len(gallery))):
        yield chunk @ gallery.T
