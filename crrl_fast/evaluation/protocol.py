"""A protocol and its record: run on one encoder or on several that are fused late, checked and written in one place."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from crrl_fast.errors import ConfigError
from crrl_fast.evaluation.context import RunEvaluation
from crrl_fast.evaluation.outcome import Outcome, fuse
from crrl_fast.files import write_json
from crrl_fast.versions import software_versions


@dataclass(frozen=True)
class Finding:
    """What a protocol found.

    Attributes:
        outcome: of the test clips.
        details: what else the record says, in JSON form.
    """

    outcome: Outcome
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol(ABC):
    """A way to evaluate an encoder; a subclass is a frozen dataclass whose fields are its settings."""

    name: ClassVar[str]
    # What of the record is a result; each encoder's own is listed where several are fused.
    measures: ClassVar[tuple[str, ...]] = ("accuracy",)

    @property
    @abstractmethod
    def sentence(self) -> str:
        """What it does, in words."""

    @abstractmethod
    def run(self, evaluation: RunEvaluation) -> Finding:
        """Evaluate one encoder."""

    def fuse(
        self, evaluations: Sequence[RunEvaluation], findings: Sequence[Finding], weights: Sequence[float]
    ) -> Finding:
        """Return the late fusion of what was found of several encoders: here, of their scores."""
        return Finding(fuse([finding.outcome for finding in findings], weights))

    @property
    def fusion_sentence(self) -> str:
        """How several encoders are fused, in words."""
        return "fused late by the weighted sum of the class probabilities"

    def settings(self) -> dict[str, Any]:
        """Return the settings in JSON form, as the record states them."""
        return asdict(self)


def evaluate(
    evaluations: RunEvaluation | Sequence[RunEvaluation],
    protocol: Protocol,
    *,
    weights: Sequence[float] | None = None,
    json_file: Path | None = None,
) -> dict[str, Any]:
    """Run a protocol, write its record and return it.

    Args:
        evaluations: the encoder; or several, which are fused late.
        protocol: what to run on each.
        weights: of each encoder in the fusion; None weighs all alike.
        json_file: where to write the record; None is ``eval/NAME-ENCODER.json`` in the (first) run folder.

    Returns:
        The record, and under ``file`` where it was written.

    Raises:
        ConfigError: the weights are unusable, or the encoders were not evaluated on the same clips.
    """
    evaluations = [evaluations] if isinstance(evaluations, RunEvaluation) else list(evaluations)
    weights = fusion_weights(weights, len(evaluations))
    _refuse_other_clips(evaluations)
    findings = [protocol.run(evaluation) for evaluation in evaluations]
    first = evaluations[0]
    fusion: dict[str, Any] = {}
    found, sentence = findings[0], protocol.sentence
    if len(evaluations) > 1:
        found, sentence = protocol.fuse(evaluations, findings, weights), f"{sentence}; {protocol.fusion_sentence}"
        streams = zip(evaluations, weights, findings, strict=True)
        fusion = {"streams": [_stream(*stream, protocol.measures) for stream in streams]}
    record = {
        "evaluation": protocol.name,
        "protocol": sentence,
        "run": str(first.run.path),
        "encoder": _encoders(evaluations),
        "dataset": first.clips.store.info.dataset,
        "split": first.clips.split,
        "train_clips": len(first.clips.train),
        "test_clips": len(first.clips.test),
        "class_names": list(first.clips.class_names),
        **protocol.settings(),
        **found.outcome.record(),
        **found.details,
        **fusion,
        "versions": software_versions(),
    }
    path = json_file or _default_file(protocol, first, record["encoder"])
    write_json(path, record)
    return {**record, "file": str(path)}


def fusion_weights(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    """Return the weight of each of ``count`` encoders; None weighs all alike.

    Raises:
        ConfigError: there are more or fewer, one is negative or not finite, or all are 0.
    """
    if count == 0:
        raise ConfigError("there is no run to evaluate: name one or more")
    if weights is None:
        return (1.0,) * count
    shown = ",".join(f"{weight:g}" for weight in weights)
    if len(weights) != count:
        raise ConfigError(
            f"--weights {shown}: {len(weights)} for {count} run{'' if count == 1 else 's'}: give one a run"
        )
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise ConfigError(f"--weights {shown}: weights are finite, at least 0, and not all 0")
    return tuple(weights)


def _refuse_other_clips(evaluations: Sequence[RunEvaluation]) -> None:
    first = evaluations[0]
    for other in evaluations[1:]:
        if other.clips.store.info.sha256 != first.clips.store.info.sha256:
            raise ConfigError(
                f"{other.run.path}: trained on another store than {first.run.path}: late fusion needs the same clips"
            )
        if other.clips.split != first.clips.split:
            raise ConfigError(
                f"{other.run.path}: trained on split {other.clips.split!r}, but {first.run.path} on "
                f"{first.clips.split!r}: name one for both with --split"
            )


def _stream(evaluation: RunEvaluation, weight: float, finding: Finding, measures: tuple[str, ...]) -> dict[str, Any]:
    found = {"accuracy": finding.outcome.accuracy, **finding.details}
    return {
        "run": str(evaluation.run.path),
        "encoder": evaluation.encoder,
        "stream": evaluation.stream,
        "weight": weight,
        **{measure: found[measure] for measure in measures},
    }


def _encoders(evaluations: Sequence[RunEvaluation]) -> str:
    """Return the encoder's name; of several, their names and streams: ``inf-fused-joint+motion+bone``."""
    names = dict.fromkeys(evaluation.encoder for evaluation in evaluations)
    streams = [evaluation.stream for evaluation in evaluations]
    return "+".join(names) + (f"-fused-{'+'.join(streams)}" if len(streams) > 1 else "")


def _default_file(protocol: Protocol, first: RunEvaluation, encoder: str) -> Path:
    info, config = first.clips.store.info, first.run.config
    parts, usual_split = [protocol.name, encoder], config.split
    if info.dataset != config.dataset:
        parts.append(info.dataset)
        usual_split = None
    if first.clips.split != (usual_split or next(iter(info.splits))):
        parts.append(first.clips.split)
    return first.run.path / "eval" / f"{'-'.join(parts)}.json"
