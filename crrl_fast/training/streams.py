"""Two parts of a step that do not need each other, at the same time where the device can."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import torch

Main = TypeVar("Main")
Side = TypeVar("Side")


def side_by_side(device: torch.device, main: Callable[[], Main], side: Callable[[], Side]) -> tuple[Main, Side]:
    """Return the results of ``main()`` and ``side()``; neither may write what the other reads.

    On a GPU ``side`` runs on a stream of its own, between a fork from and a join with the current stream, which a CUDA
    graph captures too. Its memory needs no ``record_stream``: whatever it frees can only be taken again after the next
    fork, hence after everything that the current stream did with its result. On the CPU the two run one after the
    other, because each uses all cores.

    Args:
        device: where both run.
        main: may be differentiated; random numbers are drawn by it first.
        side: its result must need no gradient.
    """
    if device.type != "cuda":
        return main(), side()
    current, other = torch.cuda.current_stream(device), _side_stream(device)
    other.wait_stream(current)
    first = main()
    with torch.cuda.stream(other):
        second = side()
    current.wait_stream(other)
    return first, second


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
