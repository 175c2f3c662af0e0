"""The benchmark of the GRU."""

from __future__ import annotations

from collections.abc import Callable

import torch

from crrl_fast.benchmark.cases import gru
from crrl_fast.benchmark.ops import require_compiled, run_cases
from crrl_fast.benchmark.record import BenchmarkRecord, CaseRecord
from crrl_fast.errors import CrrlError


def run_gru_benchmark(
    device: torch.device | str,
    *,
    only: str = "",
    rounds: int = 30,
    on_case: Callable[[CaseRecord], None] = lambda record: None,
    on_skip: Callable[[str], None] = lambda line: None,
) -> BenchmarkRecord:
    """Measure the GRU on the device, in the cases whose name contains ``only``.

    ``on_case`` sees each case as it is done, ``on_skip`` which package is left out on a GPU and why.

    Raises:
        CrrlError: nothing is compiled for the device, or no case has such a name.
    """
    device = torch.device(device)
    require_compiled(device)
    names = gru.case_names()
    if not any(only in name for name in names):
        raise CrrlError(f"no case has {only!r} in its name; the first is {names[0]!r}")
    packages = gru.peers.installed(on_skip) if device.type == "cuda" else {}
    cases = gru.cases(device, only=only, packages=packages, on_skip=on_skip)
    return run_cases("gru", cases, device, rounds=rounds, on_case=on_case, versions=packages)
