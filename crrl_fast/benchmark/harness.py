"""Time contenders against each other: result first, then warm-up, then interleaved rounds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crrl_fast.benchmark.memory import peak_extra_bytes
from crrl_fast.benchmark.record import CaseRecord, Measurement, Spread
from crrl_fast.errors import CrrlError

SAMPLE_SECONDS = 0.01
"""Calls are repeated until a sample is this long, so that the clock and the launch of work do not show."""

CASE_SECONDS = 20.0
"""A case that would be timed for longer gets fewer rounds, but not fewer than ``FEWEST_ROUNDS``."""

FEWEST_ROUNDS = 10

FEWEST_LONG_ROUNDS = 3
"""Of a case whose calls take seconds each."""

Outputs = tuple[Tensor, ...]


class WrongResultError(CrrlError):
    """A contender is not worth timing: its result is not within the case's tolerance."""


@dataclass(frozen=True)
class Contender:
    """One way to do a case's work; ``computes_result`` is False for a yardstick such as a copy of the same bytes."""

    name: str
    run: Callable[[], Outputs]
    computes_result: bool = True
    truth: Callable[[], Outputs] | None = None
    """What it should compute where that is not quite the case's truth."""
    is_torch: bool = True
    """False: its memory is not torch's to count."""
    note: str = ""
    """What a reader has to know to compare it; shown below the table."""


@dataclass(frozen=True)
class Case:
    """Our op, what it is compared with, and the truth in float64. The first contender is ours."""

    op: str
    name: str
    contenders: tuple[Contender, ...]
    truth: Callable[[], Outputs]
    tolerance: float
    batch: int = 1
    """How many ``unit`` a call handles; above 1, the time of each is shown as well."""
    unit: str = "call"
    naive: str = ""
    """The contender in ours' low precision that one would write without us: its error is the budget of ours ..."""
    slack: float = 0.0
    """... which may exceed it by so much."""
    long: bool = False
    """A call takes seconds: one of each contender is its check, its warm-up and the count of its memory."""


@dataclass(frozen=True)
class _Trial:
    """What a contender's calls before the timing say."""

    error: float | None
    extra_bytes: int | None
    seconds: float


def measure(case: Case, device: torch.device, rounds: int) -> CaseRecord:
    """Check every contender's result, then time all of them in turn, at most ``rounds`` times."""
    truth = case.truth()
    trials = [_try(case, contender, truth, device) for contender in case.contenders]
    _check_budget(case, trials)
    repeats = [max(1, math.ceil(SAMPLE_SECONDS / max(trial.seconds, 1e-7))) for trial in trials]
    seconds = sum(trial.seconds * times for trial, times in zip(trials, repeats, strict=True))
    rounds = _affordable(rounds, seconds, FEWEST_LONG_ROUNDS if case.long else FEWEST_ROUNDS)
    samples: list[list[float]] = [[] for _ in case.contenders]
    for turn in range(rounds):
        # Each round starts elsewhere, so that nobody always follows the same neighbour's caches and clock speed.
        for place in range(len(case.contenders)):
            which = (turn + place) % len(case.contenders)
            samples[which].append(_sample(case.contenders[which], device, repeats[which]))
    measurements = (
        Measurement(
            name=contender.name,
            seconds=Spread.of(samples[which]),
            speedup=Spread.of([theirs / ours for theirs, ours in zip(samples[which], samples[0], strict=True)]),
            error=trials[which].error,
            extra_bytes=trials[which].extra_bytes,
            note=contender.note,
        )
        for which, contender in enumerate(case.contenders)
    )
    return CaseRecord(
        op=case.op,
        case=case.name,
        tolerance=case.tolerance,
        measurements=tuple(measurements),
        rounds=rounds,
        batch=case.batch,
        unit=case.unit,
    )


def _try(case: Case, contender: Contender, truth: Outputs, device: torch.device) -> _Trial:
    """Check a contender's result, count its memory, and estimate its time, all of which warms it up."""
    outputs: Outputs = ()

    def run() -> None:
        nonlocal outputs
        outputs = contender.run()

    if not case.long:
        run()  # what is compiled or cached at the first call is not part of a call's memory
    began = time.perf_counter()
    extra_bytes = None
    if contender.is_torch:
        extra_bytes = peak_extra_bytes(run, device)
    else:
        run()
    seconds = time.perf_counter() - began
    error = None
    if contender.computes_result:
        error = relative_error(outputs, contender.truth() if contender.truth else truth)
    if error is not None and not error <= case.tolerance:  # also catches NaN
        raise WrongResultError(
            f"{case.op}, {case.name}: {contender.name} is off by {error:.3g} of the largest value, "
            f"which exceeds {case.tolerance:.3g}"
        )
    return _Trial(error, extra_bytes, seconds if case.long else _sample(contender, device, 3))


def _check_budget(case: Case, trials: Sequence[_Trial]) -> None:
    errors = {contender.name: trial.error for contender, trial in zip(case.contenders, trials, strict=True)}
    ours, budget = trials[0].error, errors.get(case.naive)
    if ours is not None and budget is not None and ours > budget + case.slack:
        raise WrongResultError(
            f"{case.op}, {case.name}: {case.contenders[0].name} is off by {ours:.3g} of the largest value, and "
            f"{case.naive} in the same precision by {budget:.3g} only"
        )


def relative_error(outputs: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """Return the largest difference over the truth's largest value, the worst of all outputs; NaN where one is."""
    worst = 0.0
    for output, exact in zip(outputs, truth, strict=True):
        if exact.numel() == 0:
            continue
        scale = max(float(exact.abs().max()), torch.finfo(torch.float64).tiny)
        error = float((output.double() - exact).abs().max()) / scale
        worst = error if math.isnan(error) else max(worst, error)
    return worst


def _affordable(rounds: int, seconds: float, fewest: int) -> int:
    """Return how many rounds of so many seconds are timed where ``rounds`` are asked for."""
    return min(rounds, max(fewest, int(CASE_SECONDS / max(seconds, 1e-7))))


def _sample(contender: Contender, device: torch.device, repeats: int) -> float:
    """Return the mean seconds of ``repeats`` calls in a row."""
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(repeats):
            contender.run()
        end.record()
        end.synchronize()
        milliseconds: float = start.elapsed_time(end)
        return milliseconds / 1e3 / repeats
    began = time.perf_counter()
    for _ in range(repeats):
        contender.run()
    return (time.perf_counter() - began) / repeats
