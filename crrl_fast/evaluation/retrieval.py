"""Retrieval: clips ranked by cosine similarity of frozen features, scored by mean average precision and recall@k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from crrl_fast.errors import ConfigError
from crrl_fast.evaluation.context import RunEvaluation
from crrl_fast.evaluation.features import FeatureSet
from crrl_fast.evaluation.outcome import Outcome
from crrl_fast.evaluation.protocol import Finding, Protocol
from crrl_fast.evaluation.similarity import ranking, similarities, unit_features

GALLERIES = ("train", "test")


@dataclass(frozen=True)
class Retrieval(Protocol):
    """Every test clip is a query that ranks a gallery; clips of its own class are what it looks for.

    A query without a clip of its class in the gallery is left out of mAP and recall, and counted.

    Attributes:
        gallery: ``train``, the training clips; or ``test``, all the other test clips.
        recall_at: numbers k of nearest clips among which at least one is to be of the query's class; a k beyond the
            gallery takes all of it.
    """

    name: ClassVar[str] = "retrieval"
    measures: ClassVar[tuple[str, ...]] = ("accuracy", "map")

    gallery: str = "train"
    recall_at: tuple[int, ...] = (1, 5, 10)

    def __post_init__(self) -> None:
        """Refuse another gallery, and ranks below 1.

        Raises:
            ConfigError: a setting is not one of those it can be.
        """
        if self.gallery not in GALLERIES:
            raise ConfigError(f"retrieval: gallery must be {' or '.join(GALLERIES)}, got {self.gallery!r}")
        if not self.recall_at or min(self.recall_at) < 1:
            raise ConfigError(f"retrieval: recall is taken at whole numbers of at least 1, got {list(self.recall_at)}")

    @property
    def sentence(self) -> str:
        """What it does, in words."""
        gallery = "training clips" if self.gallery == "train" else "other test clips"
        return (
            f"test clips rank the {gallery} by cosine of the frozen clip feature; mAP over the whole ranking, recall@k "
            "of at least one clip of the class, accuracy of the nearest clip"
        )

    @property
    def fusion_sentence(self) -> str:
        """How several encoders are fused, in words."""
        return "fused late by the weighted sum of the cosine similarities"

    def run(self, evaluation: RunEvaluation) -> Finding:
        """Rank by the features of one encoder.

        Raises:
            ConfigError: no query has a clip of its class in the gallery.
        """
        return self._rank([evaluation.features], [1.0])

    def fuse(
        self, evaluations: Sequence[RunEvaluation], findings: Sequence[Finding], weights: Sequence[float]
    ) -> Finding:
        """Rank by the similarities of several encoders together."""
        return self._rank([evaluation.features for evaluation in evaluations], weights)

    def _rank(self, features: Sequence[FeatureSet], weights: Sequence[float]) -> Finding:
        clips = unit_features(features, weights)
        ranked = rank(clips, leave_one_out=self.gallery == "test")
        scored = ranked.precision.isfinite()
        if not scored.any():
            raise ConfigError("retrieval: no test clip has another clip of its class in the gallery")
        precision, labels = 100 * ranked.precision[scored], clips.test_labels[scored]
        queries = labels.bincount(minlength=clips.num_classes)
        total = precision.new_zeros(clips.num_classes).index_add_(0, labels, precision)
        return Finding(
            Outcome(F.one_hot(ranked.nearest, clips.num_classes).double(), clips.test_labels),
            {
                "map": float(precision.mean()),
                "recall": {str(k): 100 * float((ranked.first[scored] < k).double().mean()) for k in self.recall_at},
                "per_class_map": [
                    value / count if count else None
                    for value, count in zip(total.tolist(), queries.tolist(), strict=True)
                ],
                "queries_left_out": int((~scored).sum()),
            },
        )


class Ranking(NamedTuple):
    """What the rankings of M queries come to.

    Attributes:
        precision: (M) float64, average precision in [0, 1]; NaN for a query without a clip of its class to find.
        first: (M) int64, rank from 0 of the first clip of the query's class; meaningless where there is none.
        nearest: (M) int64, class of the nearest clip.
    """

    precision: Tensor
    first: Tensor
    nearest: Tensor


def rank(features: FeatureSet, *, leave_one_out: bool = False) -> Ranking:
    """Rank a gallery by its similarity to each test clip; clips that are equally similar keep their order.

    Average precision is the mean, over the clips of the query's class, of the share of that class among the clips
    ranked no later. Memory is bounded (see ``similarities``).

    Args:
        features: as ``unit_features`` returns them.
        leave_one_out: rank the other test clips, rather than the training clips.
    """
    gallery, labels = (
        (features.test, features.test_labels) if leave_one_out else (features.train, features.train_labels)
    )
    parts, start = [], 0
    for similarity in similarities(features.test, gallery):
        query = torch.arange(start, start + len(similarity), device=similarity.device)
        if leave_one_out:
            similarity.scatter_(1, query[:, None], -torch.inf)
        order = ranking(similarity)
        found = labels[order[:, :-1] if leave_one_out else order]
        parts.append(_measure(found, features.test_labels[query]))
        start += len(similarity)
    return Ranking(*map(torch.cat, zip(*parts, strict=True)))


def _measure(found: Tensor, wanted: Tensor) -> Ranking:
    """Measure rankings whose classes are ``found`` (Q, N) for queries of classes ``wanted`` (Q)."""
    query, position = (found == wanted[:, None]).nonzero(as_tuple=True)
    hits = query.bincount(minlength=len(found))
    before = hits.cumsum(0) - hits  # hits of the queries before each one
    nth = torch.arange(len(query), device=found.device) - before[query] + 1
    total = torch.zeros(len(found), dtype=torch.float64, device=found.device)
    total.index_add_(0, query, nth.double() / (position + 1))
    first = F.pad(position, (0, 1))[before]  # past the last hit where the last queries have none
    return Ranking(total / hits, first, found[:, 0])
