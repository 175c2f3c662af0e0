"""Deterministic algorithms, where a recipe asks for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def deterministic_algorithms(enabled: bool = True) -> Iterator[None]:
    """Let torch choose algorithms whose result depends on their inputs alone, and refuse those that have none.

    That concerns the GPU: atomic additions in whatever order they come, cuDNN's choice by timing, and cuBLAS's
    workspace, which must be set before the process first uses the GPU. On the CPU everything is deterministic anyway.

    Args:
        enabled: False changes nothing.
    """
    if not enabled:
        yield
        return
    os.environ.setdefault(_WORKSPACE, ":4096:8")
    was_enabled = torch.are_deterministic_algorithms_enabled()
    options: Any = torch.utils.deterministic
    fills = options.fill_uninitialized_memory
    benchmark, deterministic = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    torch.use_deterministic_algorithms(True)
    options.fill_uninitialized_memory = False  # our ops write every element they allocate
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_enabled)
        options.fill_uninitialized_memory = fills
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = benchmark, deterministic
