"""The device that a command runs on."""

from __future__ import annotations

import torch

from crrl_fast.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """Return the device called ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``.

    Raises:
        ConfigError: the name is another, or CUDA is asked for and absent.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"unknown device {name!r}: choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device is usable: `crrl-fast doctor` says why; --device cpu runs without one")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
