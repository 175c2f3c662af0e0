"""Peak memory of one call."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

EXTRA_MEMORY = "peak of torch's allocations above those before the call, result included"

_QUIET = "6"  # above every level of the profiler's own log, which would put two lines a call on stderr


def peak_extra_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Run once and return the peak of torch's allocations above those made before, the result included."""
    return _on_cuda(run, device) if device.type == "cuda" else _on_cpu(run)


def _on_cuda(run: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _on_cpu(run: Callable[[], object]) -> int:
    # The CPU's allocator counts nothing, but reports each block to the profiler as it comes and goes: exact to the byte
    # for eager, compiled and native code alike, where the process's resident size would also show what the allocator
    # keeps. Unseen: what worker threads take, and what does not come from torch, as oneDNN's scratch and the few rows
    # that a thread of ours holds in a std::vector.
    os.environ.setdefault("KINETO_LOG_LEVEL", _QUIET)
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        run()
    blocks = [(event.start_ns(), event.nbytes()) for event in profile.kineto_results.events() if _is_memory(event)]
    current = peak = 0
    for _, size in sorted(blocks, key=lambda block: block[0]):
        current += size  # negative where a block is freed
        peak = max(peak, current)
    return peak


def _is_memory(event: torch._C._autograd._KinetoEvent) -> bool:
    return event.name() == "[memory]"
