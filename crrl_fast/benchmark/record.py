"""What a benchmark found, and under which circumstances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """The median of repeated measurements and their 10th and 90th percentiles."""

    median: float
    p10: float
    p90: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Summarise the samples."""
        p10, median, p90 = np.percentile(samples, [10, 50, 90])
        return cls(float(median), float(p10), float(p90))


@dataclass(frozen=True)
class Record:
    """What every record begins with.

    Attributes:
        benchmark: what was measured.
        device: type of the device.
        device_name: its model.
        threads: of torch.
        versions: of the software.
    """

    benchmark: str
    device: str
    device_name: str
    threads: int
    versions: dict[str, str | None]


@dataclass(frozen=True)
class Measurement:
    """One contender of a case."""

    name: str
    seconds: Spread
    speedup: Spread
    """Its time over ours, taken round by round: above 1, ours is faster."""
    error: float | None
    """Largest difference from the float64 truth over the truth's largest value; None for a mere yardstick."""
    extra_bytes: int | None
    """Peak memory above what was allocated before the call, its result included; None where it was not measured."""
    note: str = ""


@dataclass(frozen=True)
class CaseRecord:
    """Our op and its baselines on one input; ours comes first."""

    op: str
    case: str
    tolerance: float
    measurements: tuple[Measurement, ...]
    rounds: int = 0
    """Those that were timed: a slow case gets fewer than were asked for."""
    batch: int = 1
    unit: str = "call"
    """A call handles ``batch`` of these."""


@dataclass(frozen=True)
class BenchmarkRecord(Record):
    """All cases of one run on one device."""

    rounds: int
    cases: tuple[CaseRecord, ...]
