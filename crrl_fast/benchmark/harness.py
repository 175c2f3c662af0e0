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


def measure(case: Case, device: torch.device, rounds: int) -> CaseRecord:
    """Check every contender's result, then time all of them in turn, at most ``rounds`` times."""
    errors = _check(case)
    extra = [peak_extra_bytes(contender.run, device) if contender.is_torch else None for contender in case.contenders]
    calls = [_sample(contender, device, 3) for contender in case.contenders]  # the warm-up, too
    repeats = [max(1, math.ceil(SAMPLE_SECONDS / max(seconds, 1e-7))) for seconds in calls]
    rounds = _affordable(rounds, sum(map(math.prod, zip(calls, repeats, strict=True))))
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
            error=errors[which],
            extra_bytes=extra[which],
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


def _check(case: Case) -> list[float | None]:
    truth = case.truth()
    errors: list[float | None] = []
    for contender in case.contenders:
        error = None
        if contender.computes_result:
            error = relative_error(contender.run(), contender.truth() if contender.truth else truth)
        if error is not None and not error <= case.tolerance:  # also catches NaN
            raise WrongResultError(
                f"{case.op}, {case.name}: {contender.name} is off by {error:.3g} of the largest value, "
                f"which exceeds {case.tolerance:.3g}"
            )
        errors.append(error)
    return errors


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


def _affordable(rounds: int, seconds: float) -> int:
    """Return how many rounds of so many seconds are timed where ``rounds`` are asked for."""
    return min(rounds, max(FEWEST_ROUNDS, int(CASE_SECONDS / max(seconds, 1e-7))))


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
