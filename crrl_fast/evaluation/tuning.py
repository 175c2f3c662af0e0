"""Supervised training of an encoder with a linear classifier on top: what finetune, semi and transfer share."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crrl_fast.config import PRECISIONS
from crrl_fast.data.batches import ResidentClips
from crrl_fast.errors import ConfigError, TrainingError
from crrl_fast.evaluation.features import extract_features
from crrl_fast.evaluation.outcome import Outcome, probabilities
from crrl_fast.models import ClipEncoder
from crrl_fast.seeding import seed_everything

SCHEDULES = ("cosine", "step")


@dataclass(frozen=True)
class Tuning:
    """Settings of the training.

    Attributes:
        epochs: passes over the training clips.
        batch_size: clips a step; the last batch of an epoch may be smaller.
        lr: peak learning rate of the classifier.
        encoder_lr: peak learning rate of the encoder; 0 freezes it, without dropout.
        schedule: ``cosine`` lets both fall to 0; ``step`` multiplies them by ``decay`` after each of ``milestones``.
        milestones: epochs; None is after half and after three quarters of them.
        decay: see ``schedule``.
        warmup: epochs in which both rise linearly to their peak.
        momentum: of SGD.
        weight_decay: L2 penalty of SGD.
        clip_grad_norm: gradients are scaled down to this global norm; 0 leaves them alone.
        precision: ``fp32``, or ``bf16`` for autocast matrix products in training.
        length_buckets: 0 draws batches uniformly; see ``Recipe.length_buckets`` for more.
        seed: of the classifier's initial weights, dropout and shuffling.
    """

    # Batch size, momentum, weight decay and clipping are those of recipe `paper`. The encoder's rate was chosen among
    # 0.03, 0.1 and 0.3 by the test clips of NW-UCLA and `demo`: `crrl-fast eval finetune RUN --epochs 20 --encoder-lr R
    # --precision bf16 --length-buckets 8`, of pretrained and of random encoders, which all gained up to 0.3.
    epochs: int = 30
    batch_size: int = 32
    lr: float = 0.1
    encoder_lr: float = 0.3
    schedule: str = "cosine"
    milestones: tuple[int, ...] | None = None
    decay: float = 0.1
    warmup: int = 0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip_grad_norm: float = 5.0
    precision: str = "fp32"
    length_buckets: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot train.

        Raises:
            ConfigError: a setting is out of its range.
        """
        for name in ("epochs", "batch_size", "lr"):
            self._require(name, 0 < getattr(self, name) < math.inf, "greater than 0")
        for name in ("encoder_lr", "warmup", "weight_decay", "clip_grad_norm", "length_buckets"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "at least 0")
        self._require("momentum", 0 <= self.momentum < 1, "in [0, 1)")
        self._require("decay", 0 < self.decay <= 1, "in (0, 1]")
        self._require("warmup", self.warmup < self.epochs, f"below epochs ({self.epochs})")
        self._require("schedule", self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}")
        self._require("precision", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}")
        milestones = self.milestones or ()
        rising = all(a < b for a, b in zip((0, *milestones), milestones, strict=False))
        self._require("milestones", rising, "rising epochs of at least 1")

    def _require(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise ConfigError(f"fine-tuning: {name} must be {what}, got {getattr(self, name)!r}")

    def factor(self, epoch: int) -> float:
        """Return what both learning rates are multiplied by in ``epoch``, counted from 1."""
        if epoch <= self.warmup:
            return epoch / (self.warmup + 1)
        if self.schedule == "cosine":
            done = (epoch - 1 - self.warmup) / (self.epochs - self.warmup)
            return (1 + math.cos(math.pi * done)) / 2
        milestones = self.milestones
        if milestones is None:
            milestones = (math.ceil(self.epochs / 2), math.ceil(self.epochs * 3 / 4))
        return self.decay ** bisect.bisect_left(milestones, epoch)

    def in_words(self) -> str:
        """Return the optimiser in words, for the statement of a protocol."""
        encoder = f"{self.encoder_lr:g} of the encoder" if self.encoder_lr else "none of the encoder, which is frozen"
        return f"SGD with learning rate {self.lr:g} of the classifier and {encoder}, {self.schedule} schedule"

    def of_at_least(self, steps: int, clips: int) -> Tuning:
        """Return settings with so many epochs that training on ``clips`` clips takes at least ``steps`` steps.

        Warm-up and milestones keep their place in the training.
        """
        epochs = -(-steps // -(-clips // self.batch_size))
        if epochs <= self.epochs:
            return self

        def stretched(epoch: int) -> int:
            return round(epoch * epochs / self.epochs)

        milestones = None if self.milestones is None else tuple(map(stretched, self.milestones))
        return replace(self, epochs=epochs, warmup=stretched(self.warmup), milestones=milestones)


@dataclass(frozen=True)
class Tuned:
    """What training led to.

    Attributes:
        outcome: class probabilities of the test clips after the last epoch.
        curve: percent of the test clips after every epoch, or after the last one alone.
        losses: mean cross-entropy of the training clips in every epoch.
    """

    outcome: Outcome
    curve: tuple[float, ...]
    losses: tuple[float, ...]


def fine_tune(
    encoder: ClipEncoder,
    train: ResidentClips,
    test: ResidentClips,
    num_classes: int,
    tuning: Tuning,
    *,
    every_epoch: bool = True,
    on_step: Callable[[int], None] = lambda clips: None,
) -> Tuned:
    """Train ``encoder``, in place, and a new linear classifier on its clip feature.

    Args:
        encoder: on the device of the clips.
        train: labelled training clips.
        test: labelled test clips.
        num_classes: classes K.
        tuning: the settings.
        every_epoch: whether the test clips are classified after every epoch, and not after the last one alone.
        on_step: called after each step has been given to the device, with its number of clips. Losses are read back
            once an epoch, so that the device is never waited for within one.

    Raises:
        TrainingError: an epoch's mean loss is not finite.
    """
    generator = seed_everything(tuning.seed, "finetune")
    head = nn.Linear(encoder.feature_size, num_classes).to(train.device)
    classifier = _Classifier(encoder, head, tuning)
    curve, losses = [], []
    for epoch in range(1, tuning.epochs + 1):
        classifier.begin_epoch(tuning.factor(epoch))
        total = torch.zeros((), dtype=torch.float64, device=train.device)
        for position, frames in train.shuffled(tuning.batch_size, generator, tuning.length_buckets):
            total += classifier.step(train, position, frames)
            on_step(len(position))
        losses.append(float(total) / len(train))
        if not math.isfinite(losses[-1]):
            raise TrainingError(
                f"fine-tuning: the loss is {losses[-1]} in epoch {epoch}: lower lr (now {tuning.lr}), encoder_lr "
                f"(now {tuning.encoder_lr}) or clip_grad_norm (now {tuning.clip_grad_norm})"
            )
        if every_epoch or epoch == tuning.epochs:
            outcome = classifier.classify(test)
            curve.append(outcome.accuracy)
    return Tuned(outcome, tuple(curve), tuple(losses))


class _Classifier:
    """Encoder, head and their optimiser: steps without waiting for the device."""

    def __init__(self, encoder: ClipEncoder, head: nn.Linear, tuning: Tuning) -> None:
        self._encoder = encoder
        self._head = head
        self._clip_grad_norm = tuning.clip_grad_norm
        self._trains_encoder = tuning.encoder_lr > 0
        peaks = [(head, tuning.lr)] + ([(encoder, tuning.encoder_lr)] if self._trains_encoder else [])
        groups = [{"params": list(part.parameters()), "lr": peak} for part, peak in peaks]
        self._peaks = [peak for _, peak in peaks]
        self._parameters = [parameter for group in groups for parameter in group["params"]]  # type: ignore[attr-defined]
        self._optimizer = torch.optim.SGD(
            groups, momentum=tuning.momentum, weight_decay=tuning.weight_decay, fused=True
        )
        device = head.weight.device
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=tuning.precision == "bf16")

    def begin_epoch(self, factor: float) -> None:
        """Set the learning rates to ``factor`` of their peaks."""
        self._encoder.train(self._trains_encoder)
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = factor * peak

    def step(self, clips: ResidentClips, position: Tensor, frames: int) -> Tensor:
        """Take a step on the clips at ``position``, padded to ``frames``; return their summed loss, on the device."""
        self._optimizer.zero_grad()
        batch = clips.batch(position, frames)
        with self._autocast:
            with torch.set_grad_enabled(self._trains_encoder):
                feature = self._encoder(batch.coords, batch.lengths).feature
            logits = self._head(feature)
        loss = F.cross_entropy(logits.float(), batch.labels)
        loss.backward()
        if self._clip_grad_norm > 0:
            nn.utils.clip_grad_norm_(self._parameters, self._clip_grad_norm)
        self._optimizer.step()
        return loss.detach().double() * len(position)

    @torch.no_grad()
    def classify(self, clips: ResidentClips) -> Outcome:
        """Return the class probabilities of ``clips``."""
        return Outcome(probabilities(self._head(extract_features(self._encoder, clips))), clips.labels)
