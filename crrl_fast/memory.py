"""Memory: how much there is, and how its lack is told from other errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# What an allocation that failed says where it is no MemoryError: torch's CPU allocator, CUDA, and its libraries.
_MESSAGES = re.compile(
    r"can't allocate memory|not enough memory|out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
)


OUT_OF_MEMORY = "out of memory: end other programs, take a machine with more, or a smaller file or batch"
"""What can be said of it where it is not known what took the memory."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error says that memory, of the host or of a device, could not be had."""
    # torch.OutOfMemoryError is a RuntimeError; torch itself is not imported for this.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and (type(error).__name__ == "OutOfMemoryError" or _MESSAGES.search(str(error)) is not None)
    )


def available_memory() -> int | None:
    """Return how many bytes of the host's memory can be had without swapping; None where the system does not say."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found[1]) << 10


def device_memory(device: torch.device) -> str:
    """Return a device's name and its memory, in words."""
    if device.type != "cuda":
        available = available_memory()
        return "the host" if available is None else f"the host ({gigabytes(available)} free)"
    import torch

    free, total = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_reserved(device)
    return (
        f"{torch.cuda.get_device_name(device)} ({gigabytes(total)}, of which this process holds {gigabytes(held)} and "
        f"{gigabytes(free)} are free)"
    )


def gigabytes(size: int) -> str:
    """Return a number of bytes as text."""
    return f"{size / 1e9:.3g} GB"
