"""Time contenders against each other: result first, then warm-up, then interleaved rounds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crrl_fast.benchmark.record import CaseRecord, Measurement, Spread
from crrl_fast.errors import CrrlError

SAMPLE_SECONDS = 0.01
"""Calls are repeated until a sample is this long, so that the clock and the launch of work do not show."""

Outputs = tuple[Tensor, ...]


class WrongResultError(CrrlError):
    """A contender is not worth timing: its result is not within the case's tolerance."""


@dataclass(frozen=True)
class Contender:
    """One way to do a case's work; ``computes_result`` is False for a yardstick such as a copy of the same bytes."""

    name: str
    run: Callable[[], Outputs]
    computes_result: bool = True


@dataclass(frozen=True)
class Case:
    """Our op, what it is compared with, and the truth in float64. The first contender is ours."""

    op: str
    name: str
    contenders: tuple[Contender, ...]
    truth: Callable[[], Outputs]
    tolerance: float


def measure(case: Case, device: torch.device, rounds: int) -> CaseRecord:
    """Check every contender's result, then time all of them in turn, ``rounds`` times."""
    errors = _check(case)
    extra = [_extra_bytes(contender, device) for contender in case.contenders]
    repeats = [_calibrate(contender, device) for contender in case.contenders]
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
        )
        for which, contender in enumerate(case.contenders)
    )
    return CaseRecord(case.op, case.name, case.tolerance, tuple(measurements))


def _check(case: Case) -> list[float | None]:
    truth = case.truth()
    errors: list[float | None] = []
    for contender in case.contenders:
        error = relative_error(contender.run(), truth) if contender.computes_result else None
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


def _calibrate(contender: Contender, device: torch.device) -> int:
    """Warm up, then return how many calls make a sample."""
    for _ in range(3):
        contender.run()
    return max(1, math.ceil(SAMPLE_SECONDS / max(_sample(contender, device, 3), 1e-7)))


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


def _extra_bytes(contender: Contender, device: torch.device) -> int | None:
    if device.type != "cuda":
        return None  # torch keeps no such count for the CPU's allocator
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    contender.run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
