"""Semi-supervised evaluation: labels for a few percent of the training clips, drawn several times."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from crrl_fast.display import adding
from crrl_fast.errors import ConfigError
from crrl_fast.evaluation.context import RunEvaluation
from crrl_fast.evaluation.linear import LinearProbe, linear_probe
from crrl_fast.evaluation.outcome import Outcome, fuse
from crrl_fast.evaluation.protocol import Finding, Protocol
from crrl_fast.evaluation.tuning import Tuning, fine_tune
from crrl_fast.seeding import derive_seed


@dataclass(frozen=True)
class SemiFinding(Finding):
    """What was found of one encoder, or of several that were fused.

    Attributes:
        draws: for each percentage, in the order of the settings, the outcome of every draw.
        clips: for each percentage the number of labelled clips.
    """

    draws: tuple[tuple[Outcome, ...], ...] = ()
    clips: tuple[int, ...] = ()


@dataclass(frozen=True)
class SemiSupervised(Protocol):
    """An encoder that was pretrained on all clips, and labels for a class-stratified part of the training clips.

    Attributes:
        trainer: how each part is learnt from: fine-tuning, or a linear probe on the frozen feature.
        percent: of the clips of each class, at least one clip.
        draws: how often a part of each size is drawn; see ``stratified_part``.
        min_steps: fine-tuning on a small part gets more epochs than ``trainer`` says, until it takes so many steps.
    """

    name: ClassVar[str] = "semi"

    trainer: Tuning | LinearProbe = field(default_factory=Tuning)
    percent: tuple[float, ...] = (1, 5, 10, 20)
    draws: int = 5
    min_steps: int = 100

    def __post_init__(self) -> None:
        """Refuse parts that cannot be drawn.

        Raises:
            ConfigError: a percentage lies outside (0, 100] or stands twice, or there is none; or no draw.
        """
        shown = ",".join(f"{percent:g}" for percent in self.percent)
        if not self.percent or not all(0 < percent <= 100 for percent in self.percent):
            raise ConfigError(f"semi: percent must be above 0 and at most 100, got {shown or 'none'}")
        if len(set(self.percent)) < len(self.percent):
            raise ConfigError(f"semi: percent {shown}: name each once")
        if self.draws < 1:
            raise ConfigError(f"semi: draws must be at least 1, got {self.draws}")
        if self.min_steps < 0:
            raise ConfigError(f"semi: min_steps must be at least 0, got {self.min_steps}")

    @property
    def sentence(self) -> str:
        """What it does, in words."""
        if isinstance(self.trainer, Tuning):
            how = (
                f"encoder and linear classifier fine-tuned on it for {self.trainer.epochs} epochs and at least "
                f"{self.min_steps} steps, {self.trainer.in_words()}"
            )
        else:
            how = f"linear classifier trained on its frozen clip features for {self.trainer.epochs} epochs"
        return (
            f"labels for a class-stratified part of the training clips, at least one a class, {self.draws} random "
            f"draws of each size: {how}; the last epoch, not the best, is the result; mean and sample standard "
            "deviation over the draws"
        )

    def settings(self) -> dict[str, Any]:
        """Return the settings in JSON form, as the record states them."""
        return {
            "percent": list(self.percent),
            "draws": self.draws,
            "min_steps": self.min_steps,
            "frozen": isinstance(self.trainer, LinearProbe),
            **asdict(self.trainer),
        }

    def run(self, evaluation: RunEvaluation) -> SemiFinding:
        """Train one encoder on every part.

        Raises:
            TrainingError: a loss is no longer finite.
        """
        labels = evaluation.clips.train.labels.cpu()
        parts = [
            [stratified_part(labels, percent, self.trainer.seed, draw) for draw in range(self.draws)]
            for percent in self.percent
        ]
        # At least one clip a class, and rounding, are the same in every draw.
        clips = tuple(len(draws[0]) for draws in parts)
        learn = self._probe if isinstance(self.trainer, LinearProbe) else self._fine_tune
        outcomes = learn(evaluation, parts)
        return self._found(tuple(tuple(next(outcomes) for _ in draws) for draws in parts), clips)

    def fuse(
        self, evaluations: Sequence[RunEvaluation], findings: Sequence[Finding], weights: Sequence[float]
    ) -> Finding:
        """Return the late fusion of several encoders, draw by draw: all were trained on the same parts."""
        found = [finding for finding in findings if isinstance(finding, SemiFinding)]
        by_size = zip(*(finding.draws for finding in found), strict=True)
        draws = tuple(tuple(fuse(draw, weights) for draw in zip(*sizes, strict=True)) for sizes in by_size)
        return self._found(draws, found[0].clips)

    def _found(self, draws: tuple[tuple[Outcome, ...], ...], clips: tuple[int, ...]) -> SemiFinding:
        pooled = [_pooled(outcomes) for outcomes in draws]
        fractions = [
            {"percent": percent, "clips": count, "draws": self.draws, **_spread(outcomes), **_classes(whole)}
            for percent, count, outcomes, whole in zip(self.percent, clips, draws, pooled, strict=True)
        ]
        largest = self.percent.index(max(self.percent))
        return SemiFinding(pooled[largest], {"fractions": fractions}, draws, clips)

    def _fine_tune(self, evaluation: RunEvaluation, parts: list[list[Tensor]]) -> Iterator[Outcome]:
        assert isinstance(self.trainer, Tuning)
        clips = evaluation.clips
        tunings = [self.trainer.of_at_least(self.min_steps, len(draws[0])) for draws in parts]
        total = sum(tuning.epochs * len(part) for tuning, draws in zip(tunings, parts, strict=True) for part in draws)
        with evaluation.counting(f"{self.name} {evaluation.encoder}", total) as progress:
            add = adding(progress)
            for tuning, draws in zip(tunings, parts, strict=True):
                for draw, part in enumerate(draws):
                    yield fine_tune(
                        evaluation.load_encoder(),
                        clips.train.subset(part),
                        clips.test,
                        clips.num_classes,
                        replace(tuning, seed=_draw_seed(tuning.seed, draw)),
                        every_epoch=False,
                        on_step=add,
                    ).outcome

    def _probe(self, evaluation: RunEvaluation, parts: list[list[Tensor]]) -> Iterator[Outcome]:
        assert isinstance(self.trainer, LinearProbe)
        features = evaluation.features
        for draws in parts:
            for draw, part in enumerate(draws):
                index = part.to(evaluation.device)
                known = replace(features, train=features.train[index], train_labels=features.train_labels[index])
                yield linear_probe(known, replace(self.trainer, seed=_draw_seed(self.trainer.seed, draw))).outcome


def stratified_part(labels: Tensor, percent: float, seed: int, draw: int) -> Tensor:
    """Draw ``percent`` of the clips of every class, rounded half up, at least one.

    Each draw orders the clips of each class at random and takes the first ones, so that a smaller part of the same
    draw lies within a larger one, whatever other sizes are asked for; draws are independent of each other.

    Args:
        labels: (N) int64 on the host, all of them known.
        percent: above 0, at most 100.
        seed: of all draws.
        draw: number of the draw.

    Returns:
        Positions (B) int64 in rising order.
    """
    generator = torch.Generator().manual_seed(_draw_seed(seed, draw))
    order = torch.randperm(len(labels), generator=generator)
    parts = []
    for label in labels.unique():
        members = order[labels[order] == label]
        parts.append(members[: max(1, int(len(members) * percent / 100 + 0.5))])
    return torch.cat(parts).sort().values


def _draw_seed(seed: int, draw: int) -> int:
    return derive_seed(seed, f"semi/{draw}")


def _pooled(draws: Sequence[Outcome]) -> Outcome:
    """Return the outcomes of several draws as one, whose accuracy is their mean."""
    return Outcome(torch.cat([draw.scores for draw in draws]), torch.cat([draw.labels for draw in draws]))


def _classes(outcome: Outcome) -> dict[str, Any]:
    record = outcome.record()
    return {"per_class": record["per_class"], "confusion": record["confusion"]}


def _spread(draws: Sequence[Outcome]) -> dict[str, Any]:
    accuracies = [draw.accuracy for draw in draws]
    return {
        "accuracies": accuracies,
        "mean": statistics.fmean(accuracies),
        "std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "min": min(accuracies),
        "max": max(accuracies),
    }
