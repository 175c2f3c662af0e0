"""Peak memory of one call."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

EXTRA_MEMORY = "peak of torch's allocations above those before the call, result included"

_QUIET = "6"  # above every level of the profiler's own log, which would put two lines a call on stderr


_CALL = "the call whose memory is counted"


def _nothing() -> None:
    pass


def peak_extra_bytes(run: Callable[[], object], device: torch.device, before: Callable[[], object] = _nothing) -> int:
    """Run once and return the peak of torch's allocations above those made before, the result included.

    Args:
        run: the call.
        device: where it allocates.
        before: runs just before, to allocate what the call frees or replaces: the CPU's count cannot know the size of
            blocks that are older.
    """
    return _on_cuda(run, device, before) if device.type == "cuda" else _on_cpu(run, before)


def _on_cuda(run: Callable[[], object], device: torch.device, before: Callable[[], object]) -> int:
    before()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    allocated = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - allocated


def _on_cpu(run: Callable[[], object], before: Callable[[], object]) -> int:
    # The CPU's allocator counts nothing, but reports each block to the profiler as it comes and goes: exact to the byte
    # for eager, compiled and native code alike, where the process's resident size would also show what the allocator
    # keeps. Unseen: what worker threads take, and what does not come from torch, as oneDNN's scratch and the few rows
    # that a thread of ours holds in a std::vector.
    os.environ.setdefault("KINETO_LOG_LEVEL", _QUIET)
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        before()
        with torch.autograd.profiler.record_function(_CALL):
            run()
    events = profile.kineto_results.events()
    (began,) = (event.start_ns() for event in events if event.name() == _CALL)
    blocks = [(event.start_ns(), event.nbytes()) for event in events if _is_memory(event)]
    current = peak = 0
    for when, size in sorted(blocks, key=lambda block: block[0]):
        if when < began:
            continue
        current += size  # negative where a block is freed
        peak = max(peak, current)
    return peak


def _is_memory(event: torch._C._autograd._KinetoEvent) -> bool:
    return event.name() == "[memory]"
