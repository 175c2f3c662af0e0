"""Nearest neighbours on frozen clip features, by cosine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from crrl_fast.errors import ConfigError
from crrl_fast.evaluation.context import RunEvaluation
from crrl_fast.evaluation.features import FeatureSet
from crrl_fast.evaluation.outcome import Outcome
from crrl_fast.evaluation.protocol import Finding, Protocol
from crrl_fast.evaluation.similarity import nearest, similarities, unit_features


@dataclass(frozen=True)
class NearestNeighbours(Protocol):
    """Majority vote of the nearest training clips by cosine; the nearest one of equally near clips is the first.

    Attributes:
        k: training clips that vote; at equal votes the class wins whose voters are more similar together.
    """

    name: ClassVar[str] = "knn"

    k: int = 1

    def __post_init__(self) -> None:
        """Refuse a vote without voters.

        Raises:
            ConfigError: k is less than 1.
        """
        if self.k < 1:
            raise ConfigError(f"nearest neighbours: k must be at least 1, got {self.k}")

    @property
    def sentence(self) -> str:
        """What it does, in words."""
        vote = "" if self.k == 1 else "; the majority wins, among equals the more similar class"
        return f"{self.k}-nearest-neighbour by cosine on the frozen clip feature{vote}"

    @property
    def fusion_sentence(self) -> str:
        """How several encoders are fused, in words."""
        return "fused late by the weighted sum of the cosine similarities"

    def run(self, evaluation: RunEvaluation) -> Finding:
        """Classify the test clips by the features of one encoder.

        Raises:
            ConfigError: k is more than there are training clips.
        """
        return self._vote([evaluation.features], [1.0])

    def fuse(
        self, evaluations: Sequence[RunEvaluation], findings: Sequence[Finding], weights: Sequence[float]
    ) -> Finding:
        """Classify the test clips by the similarities of several encoders together."""
        return self._vote([evaluation.features for evaluation in evaluations], weights)

    def _vote(self, features: Sequence[FeatureSet], weights: Sequence[float]) -> Finding:
        return Finding(nearest_neighbours(unit_features(features, weights), self.k))


def nearest_neighbours(features: FeatureSet, k: int = 1) -> Outcome:
    """Classify test clips by the vote of their ``k`` nearest training clips.

    Args:
        features: as ``unit_features`` returns them.
        k: how many vote.

    Returns:
        Scores in [0, 1], (M, K) float64: ``(votes + s / (k + 1)) / (k + 1)``, where ``s`` is the sum of
        ``(1 + similarity) / 2`` over the voters for a class. As ``s`` is at most k, it only decides between equals.

    Raises:
        ConfigError: k is more than there are training clips.
    """
    if k > len(features.train):
        raise ConfigError(f"nearest neighbours: k is {k}, but there are only {len(features.train)} training clips")
    scores = []
    for similarity in similarities(features.test, features.train):
        voters = nearest(similarity, k)
        votes = F.one_hot(features.train_labels[voters], features.num_classes).double()
        likeness = (1 + similarity.gather(1, voters).double()) / 2
        scores.append(((1 + likeness / (k + 1)).unsqueeze(2) * votes).sum(dim=1) / (k + 1))
    return Outcome(torch.cat(scores), features.test_labels)


def nearest_neighbour_accuracy(features: FeatureSet) -> float:
    """Return the share of test clips whose most similar training clip (cosine) has their label, in percent."""
    return nearest_neighbours(unit_features([features], [1.0])).accuracy
