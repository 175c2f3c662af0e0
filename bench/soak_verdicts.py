"""Whether a long run grew or slowed: what is compared, and what is told from noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from soak_worker import Sample

from crrl_fast.benchmark.record import Spread

MEMORY_LIMIT = 0.01
"""Growth of memory after warm-up."""

DRIFT_LIMIT = 0.05
"""Change of clips per second after warm-up, either way."""

KEPT, BROKEN, UNDECIDED = "kept", "broken", "undecided"

_PARTS = 5
_DEVIATES = 1.96
"""Standard deviations to either side that hold 95 percent."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """How a series went on after its warm-up.

    Attributes:
        first: its first fifth.
        last: its last fifth.
        ends: the median of the last fifth over that of the first, less 1.
        trend: the median of the slopes between all pairs of values, over the whole length, as a part of the median.
        interval: of ``trend``, 95 percent (Sen, Estimates of the regression coefficient based on Kendall's tau, 1968);
            it takes values to be independent, so that noise which lasts longer makes it too narrow.
    """

    first: Spread
    last: Spread
    ends: float
    trend: float
    interval: tuple[float, float]

    @classmethod
    def of(cls, series: Sequence[float]) -> Change:
        """Compare the fifths of a series of at least two values."""
        values = np.asarray(series, dtype=np.float64)
        size = max(1, len(values) // _PARTS)
        first, last = values[:size], values[-size:]
        trend, low, high = (len(values) - 1) / np.median(values) * _slopes(values)
        return cls(
            first=Spread.of(first.tolist()),
            last=Spread.of(last.tolist()),
            ends=float(np.median(last) / np.median(first) - 1),
            trend=float(trend),
            interval=(float(low), float(high)),
        )

    @property
    def growth(self) -> float:
        """The larger of ``ends`` and ``trend``: a step at the end shows in the one, a slow rise in the other."""
        return max(self.ends, self.trend)

    @property
    def drift(self) -> float:
        """Whichever of ``ends`` and ``trend`` is further from 0."""
        return max(self.ends, self.trend, key=abs)


@dataclass(frozen=True)
class Verdict:
    """Whether a quantity of a stage stayed within its limit.

    Attributes:
        stage: of the run, or several.
        what: was measured.
        state: ``kept``, ``broken`` or ``undecided``.
        found: the growth or drift that the limit is for, a part of 1; for counts, how many more.
        limit: of ``found``.
        note: why, where that is not plain.
    """

    stage: str
    what: str
    state: str
    found: float
    limit: float
    note: str = ""


def warm_up(epochs: int, probe_every: int) -> int:
    """Return the epochs of a stage that are left out: a tenth, but two probes, and never more than a half."""
    return min(max(epochs // 10, 2 * probe_every), epochs // 2)


def judge_memory(stage: str, what: str, change: Change) -> Verdict:
    """Allow less than 1 percent of growth."""
    state = KEPT if change.growth < MEMORY_LIMIT else BROKEN
    return Verdict(stage, what, state, change.growth, MEMORY_LIMIT)


def judge_count(stage: str, what: str, counts: Sequence[int]) -> Verdict:
    """Allow no more at the end of a series, its last fifth, than there were at its beginning."""
    size = max(1, len(counts) // _PARTS)
    more = max(counts[-size:]) - max(counts[:size])
    return Verdict(stage, what, KEPT if more <= 0 else BROKEN, more, 0)


def judge_drift(stage: str, rates: Sequence[float], machine: Sequence[float]) -> Verdict:
    """Allow less than 5 percent, of throughput as it is or else beside what the machine gave at the time.

    Args:
        stage: of the run.
        rates: clips per second, block by block.
        machine: operations per second of one and the same product, at the same times.
    """
    what, raw = "throughput", Change.of(rates)
    if abs(raw.drift) < DRIFT_LIMIT:
        return Verdict(stage, what, KEPT, raw.drift, DRIFT_LIMIT)
    own = Change.of(np.divide(rates, machine).tolist())
    beside = f"{raw.drift:+.1%} as it is, {own.drift:+.1%} beside a torch.mm at the same times"
    if abs(own.drift) < DRIFT_LIMIT:
        return Verdict(stage, what, KEPT, own.drift, DRIFT_LIMIT, f"{beside}: that was the machine")
    low, high = own.interval
    if low < DRIFT_LIMIT and high > -DRIFT_LIMIT:
        note = f"{beside}, with noise {low:+.1%} to {high:+.1%}: too noisy to tell, run it on an idle machine"
        return Verdict(stage, what, UNDECIDED, own.drift, DRIFT_LIMIT, note)
    return Verdict(stage, what, BROKEN, own.drift, DRIFT_LIMIT, beside)


@dataclass(frozen=True)
class Blocks:
    """A stage cut into blocks of as many epochs as lie between two probes, so that each holds the same work.

    Attributes:
        rates: clips per second from the end of an epoch to the end of a later one, with probes, log and checkpoints.
        machine: the median ``gemm_flops`` of each block.
    """

    rates: tuple[float, ...]
    machine: tuple[float, ...]

    @classmethod
    def of(cls, samples: Sequence[Sample], size: int) -> Blocks:
        """Cut samples of successive epochs; the first one is the moment from which time counts."""
        ends = range(size, len(samples), size)
        parts = [samples[end - size : end + 1] for end in ends]
        rates = [sum(epoch.clips for epoch in part[1:]) / (part[-1].ended - part[0].ended) for part in parts]
        machine = [float(np.median([epoch.gemm_flops for epoch in part[1:]])) for part in parts]
        return cls(tuple(rates), tuple(machine))


def most_of_blocks(values: Sequence[int], size: int) -> list[int]:
    """Return the largest of each ``size`` successive values; what is left of a whole block is left out."""
    return [max(values[start : start + size]) for start in range(0, len(values) - size + 1, size)]


def _slopes(values: Numbers) -> Numbers:
    """Return the median slope between all pairs, and the lower and upper end of its interval."""
    count = len(values)
    earlier, later = np.triu_indices(count, 1)
    slopes = np.sort((values[later] - values[earlier]) / (later - earlier))
    reach = _DEVIATES * np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, int((len(slopes) - reach) / 2))
    return np.array([np.median(slopes), slopes[low], slopes[-1 - low]])
