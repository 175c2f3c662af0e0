"""The benchmark of the fused ops, and what every benchmark records."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch

from crrl_fast import _ext
from crrl_fast.benchmark.cases import OP_CASES
from crrl_fast.benchmark.harness import Case, measure
from crrl_fast.benchmark.record import BenchmarkRecord, CaseRecord
from crrl_fast.errors import CrrlError
from crrl_fast.versions import software_versions


def run_ops_benchmark(
    device: torch.device | str,
    *,
    ops: Iterable[str] | None = None,
    rounds: int = 30,
    on_case: Callable[[CaseRecord], None] = lambda record: None,
) -> BenchmarkRecord:
    """Measure the ops on the device, all or those named; ``on_case`` sees each case as it is done."""
    device = torch.device(device)
    require_compiled(device)
    wanted = list(OP_CASES) if ops is None else list(ops)
    unknown = [op for op in wanted if op not in OP_CASES]
    if unknown:
        raise CrrlError(f"unknown op {unknown[0]!r}; there are {', '.join(OP_CASES)}")
    cases = (case for op in wanted for case in OP_CASES[op](device))
    return run_cases("ops", cases, device, rounds=rounds, on_case=on_case)


def require_compiled(device: torch.device) -> None:
    """Refuse to time the plain-PyTorch reference as ours."""
    if device.type not in _ext.device_types:
        raise CrrlError(f"there are no compiled ops for {device.type} to measure; see `crrl-fast doctor`")


def run_cases(
    benchmark: str,
    cases: Iterable[Case],
    device: torch.device,
    *,
    rounds: int,
    on_case: Callable[[CaseRecord], None] = lambda record: None,
    versions: Mapping[str, str] | None = None,
) -> BenchmarkRecord:
    """Measure the cases one by one; ``versions`` are those of further packages."""
    records = []
    for case in cases:
        records.append(measure(case, device, rounds))
        on_case(records[-1])
    return BenchmarkRecord(
        benchmark=benchmark,
        device=device.type,
        device_name=device_name(device),
        threads=torch.get_num_threads(),
        rounds=rounds,
        versions={**software_versions(), **(versions or {})},
        cases=tuple(records),
    )


def device_name(device: torch.device) -> str:
    """Return the model of a GPU or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    table = Path("/proc/cpuinfo")  # platform.processor() says no more than x86_64 on Linux
    if table.exists():
        for line in table.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
