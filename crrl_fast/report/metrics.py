"""The epochs of a run, read from its ``metrics.jsonl``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from crrl_fast.errors import DataError

# What an epoch's record holds beside the losses; ``accuracy`` is that of the contrast, a share and no loss.
_NOT_LOSSES = ("stage", "epoch", "loss", "lr", "seconds", "clips_per_second", "knn", "accuracy", "skipped")

Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class StageLog:
    """The epochs of one stage.

    Attributes:
        stage: its name.
        curves: for each number of the log, (epoch, value) in the order of epochs; values that are not finite are left
            out, and so are epochs without that number.
    """

    stage: str
    curves: Mapping[str, Curve]

    @property
    def epochs(self) -> int:
        """Epochs that were logged."""
        return len(self.curves["epoch"])

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts of the loss."""
        return tuple(name for name in self.curves if name not in _NOT_LOSSES)

    @property
    def seconds(self) -> float:
        """Seconds of all epochs together."""
        return sum(value for _, value in self.curves.get("seconds", ()))

    @property
    def clips_per_second(self) -> float | None:
        """The median epoch's rate; None where none was logged."""
        rates = [value for _, value in self.curves.get("clips_per_second", ())]
        return median(rates) if rates else None


def read_metrics(path: Path) -> tuple[StageLog, ...]:
    """Read a log, stage after stage; no file is no stage.

    A run that was killed may leave its last line unfinished; that line is passed over. Where an epoch stands twice,
    the later line counts.

    Raises:
        DataError: a line is no record of an epoch, or the file cannot be read.
    """
    if not path.exists():
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}): restore it, or remove it to report without it") from error
    stages: dict[str, dict[int, dict[str, float]]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            stage, epoch, values = _parse(line)
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise DataError(
                f"{path}, line {number}: not a record of an epoch ({error!r}): mend or remove the line"
            ) from error
        stages.setdefault(stage, {})[epoch] = values
    return tuple(StageLog(stage, _curves(epochs)) for stage, epochs in stages.items())


def _parse(line: str) -> tuple[str, int, dict[str, float]]:
    record: dict[str, Any] = json.loads(line)
    stage, epoch = record["stage"], record["epoch"]
    if not isinstance(stage, str) or not isinstance(epoch, int) or "loss" not in record:
        raise ValueError("stage, epoch or loss is missing")
    return stage, epoch, {name: float(value) for name, value in record.items() if name != "stage"}


def _curves(epochs: Mapping[int, Mapping[str, float]]) -> dict[str, Curve]:
    names = dict.fromkeys(name for values in epochs.values() for name in values)
    return {
        name: tuple(
            (epoch, epochs[epoch][name])
            for epoch in sorted(epochs)
            if name in epochs[epoch] and math.isfinite(epochs[epoch][name])
        )
        for name in names
    }
