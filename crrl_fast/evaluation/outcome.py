"""What a protocol found: a score of every class for every test clip, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Outcome:
    """Scores of test clips.

    Attributes:
        scores: (M, K) floating, the higher the likelier; probabilities where outcomes are to be fused.
        labels: (M) int64, the true classes.
    """

    scores: Tensor
    labels: Tensor

    @property
    def predicted(self) -> Tensor:
        """The class of the highest score of each clip, (M) int64; the lowest-numbered one where several are equal."""
        return self.scores.argmax(dim=1)

    @property
    def accuracy(self) -> float:
        """Percent of the clips whose class was predicted."""
        return 100 * float((self.predicted == self.labels).double().mean())

    def confusion(self) -> Tensor:
        """Return (K, K) int64: how many clips of each class (row) were taken for each class (column)."""
        classes = self.scores.shape[1]
        pairs = self.labels * classes + self.predicted
        return torch.bincount(pairs, minlength=classes**2).view(classes, classes).cpu()

    def record(self) -> dict[str, Any]:
        """Return ``accuracy``, ``per_class`` (percent; None for a class without test clips) and ``confusion``."""
        confusion = self.confusion()
        return {"accuracy": self.accuracy, "per_class": per_class(confusion), "confusion": confusion.tolist()}


def per_class(confusion: Tensor) -> list[float | None]:
    """Return the percent of each class that was predicted right; None for a class without test clips."""
    clips, right = confusion.sum(dim=1).tolist(), confusion.diagonal().tolist()
    return [100 * r / n if n else None for r, n in zip(right, clips, strict=True)]


def probabilities(logits: Tensor) -> Tensor:
    """Return the softmax of ``logits`` (M, K), in which outcomes of several encoders are fused."""
    return F.softmax(logits.double(), dim=1)


def fuse(outcomes: Sequence[Outcome], weights: Sequence[float]) -> Outcome:
    """Return the late fusion of outcomes on the same clips: the weighted sum of their scores."""
    scores = torch.stack([weight * outcome.scores for outcome, weight in zip(outcomes, weights, strict=True)])
    return Outcome(scores.sum(dim=0), outcomes[0].labels)
