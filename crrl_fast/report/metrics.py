"""The epochs of a run, read from its ``metrics.jsonl``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from crrl_fast.errors import DataError, shown
from crrl_fast.files import MALFORMED, read_limited

# What an epoch's record holds beside the losses; ``accuracy`` is that of the contrast, a share and no loss.
_NOT_LOSSES = ("stage", "epoch", "loss", "lr", "seconds", "clips_per_second", "knn", "accuracy", "skipped")

# A run logs a dozen numbers a stage; every one of them becomes a curve.
_MOST_CURVES = 500
_MOST_EPOCHS = 1 << 31

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
        lines = read_limited(path, "record").decode().splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}): restore it, or remove it to report without it") from error
    stages: dict[str, dict[int, dict[str, float]]] = {}
    names: set[tuple[str, str]] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            stage, epoch, values = _parse(line)
        except MALFORMED as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise DataError(
                f"{path}, line {number}: not a record of an epoch ({shown(error)}): mend or remove the line"
            ) from error
        stages.setdefault(stage, {})[epoch] = values
        names.update((stage, name) for name in values)
        if len(names) > _MOST_CURVES:
            raise DataError(
                f"{path}, line {number}: more than {_MOST_CURVES} different numbers: remove what is not the log"
            )
    return tuple(StageLog(stage, _curves(epochs)) for stage, epochs in stages.items())


def _parse(line: str) -> tuple[str, int, dict[str, float]]:
    record: dict[str, Any] = json.loads(line)
    stage, epoch = record["stage"], record["epoch"]
    if not isinstance(stage, str) or type(epoch) is not int or not 0 <= epoch < _MOST_EPOCHS or "loss" not in record:
        raise ValueError("stage, epoch or loss is missing")
    return stage, epoch, {name: float(value) for name, value in record.items() if name != "stage"}


def _curves(epochs: Mapping[int, Mapping[str, float]]) -> dict[str, Curve]:
    curves: dict[str, list[tuple[int, float]]] = {name: [] for values in epochs.values() for name in values}
    for epoch in sorted(epochs):
        for name, value in epochs[epoch].items():
            if math.isfinite(value):
                curves[name].append((epoch, value))
    return {name: tuple(curve) for name, curve in curves.items()}
