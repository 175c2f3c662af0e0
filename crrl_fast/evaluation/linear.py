"""The linear probe: a linear classifier trained on frozen clip features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from crrl_fast.errors import ConfigError
from crrl_fast.evaluation.features import FeatureSet
from crrl_fast.seeding import seed_everything


@dataclass(frozen=True)
class LinearProbe:
    """Settings of the probe.

    Attributes:
        epochs: passes over the training features.
        lr: initial learning rate of SGD with momentum 0.9; it falls to 0 along a cosine.
        batch_size: features a step.
        seed: of the initial weights and the shuffling.
    """

    epochs: int = 300
    lr: float = 1.0
    batch_size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot train.

        Raises:
            ConfigError: a setting is not positive.
        """
        for name in ("epochs", "lr", "batch_size"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"linear probe: {name} must be greater than 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class LinearResult:
    """What the probe found, in percent of the test clips.

    Attributes:
        accuracy: after the last epoch; this is the result.
        best_accuracy: of the best epoch, chosen on the test clips, hence no result; for comparison only.
        curve: after every epoch.
    """

    accuracy: float
    best_accuracy: float
    curve: tuple[float, ...]


def linear_probe(features: FeatureSet, probe: LinearProbe) -> LinearResult:
    """Train a linear classifier on the training features and report its accuracy on the test features."""
    generator = seed_everything(probe.seed, "linear")
    device = features.train.device
    classifier = nn.Linear(features.train.shape[1], features.num_classes).to(device)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=probe.lr, momentum=0.9)
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
            correct.append((classifier(features.test).argmax(dim=1) == features.test_labels).double().mean())
    curve = (100 * torch.stack(correct)).tolist()
    return LinearResult(accuracy=curve[-1], best_accuracy=max(curve), curve=tuple(curve))
