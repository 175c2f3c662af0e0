"""The linear probe: a linear classifier trained on frozen clip features."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from crrl_fast.errors import ConfigError
from crrl_fast.evaluation.context import RunEvaluation
from crrl_fast.evaluation.features import FeatureSet
from crrl_fast.evaluation.outcome import Outcome, probabilities
from crrl_fast.evaluation.protocol import Finding, Protocol
from crrl_fast.seeding import seed_everything


@dataclass(frozen=True)
class LinearProbe(Protocol):
    """A linear classifier on the frozen clip feature.

    Attributes:
        epochs: passes over the training features.
        lr: initial learning rate of SGD with momentum 0.9; it falls to 0 along a cosine.
        batch_size: features a step.
        weight_decay: L2 penalty of SGD.
        seed: of the initial weights and the shuffling.
    """

    name: ClassVar[str] = "linear"

    epochs: int = 300
    lr: float = 1.0
    batch_size: int = 128
    weight_decay: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot train.

        Raises:
            ConfigError: a setting is out of its range.
        """
        for name in ("epochs", "lr", "batch_size"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"linear probe: {name} must be greater than 0, got {getattr(self, name)}")
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"linear probe: weight_decay must be at least 0, got {self.weight_decay}")

    @property
    def sentence(self) -> str:
        """What it does, in words."""
        return "linear classifier on the frozen clip feature; the last epoch, not the best, is the result"

    def run(self, evaluation: RunEvaluation) -> Finding:
        """Probe one encoder."""
        result = linear_probe(evaluation.features, self)
        return Finding(result.outcome, {"curve": list(result.curve), "best_accuracy": result.best_accuracy})


@dataclass(frozen=True)
class LinearResult:
    """What the probe found.

    Attributes:
        outcome: class probabilities of the test clips after the last epoch.
        curve: percent of the test clips after every epoch.
    """

    outcome: Outcome
    curve: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """Percent of the test clips after the last epoch; this is the result."""
        return self.curve[-1]

    @property
    def best_accuracy(self) -> float:
        """Percent of the best epoch, chosen on the test clips, hence no result; for comparison only."""
        return max(self.curve)


def linear_probe(features: FeatureSet, probe: LinearProbe) -> LinearResult:
    """Train a linear classifier on the training features and report its accuracy on the test features."""
    generator = seed_everything(probe.seed, "linear")
    device = features.train.device
    classifier = nn.Linear(features.train.shape[1], features.num_classes).to(device)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=probe.lr, momentum=0.9, weight_decay=probe.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, probe.epochs)
    correct = []
    for _ in range(probe.epochs):
        order = torch.randperm(len(features.train), generator=generator).to(device)
        for index in order.split(probe.batch_size):
            loss = F.cross_entropy(classifier(features.train[index]), features.train_labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        with torch.no_grad():
            logits = classifier(features.test)
        correct.append((logits.argmax(dim=1) == features.test_labels).double().mean())
    curve = (100 * torch.stack(correct)).tolist()
    return LinearResult(Outcome(probabilities(logits), features.test_labels), tuple(curve))
