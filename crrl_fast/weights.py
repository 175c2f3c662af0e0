"""Weights from checkpoints that anybody may have written: checked against the module before any memory is taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from crrl_fast.data.tensor_header import TensorHeader, read_tensor_header
from crrl_fast.errors import ConfigError, shown
from crrl_fast.limits import limit, raising

Module = TypeVar("Module", bound=nn.Module)


def build_checked(where: Path, build: Callable[[], Module]) -> Module:
    """Return a module that ``build`` makes, unless its weights would be larger than limit ``encoder``.

    Args:
        where: names what its sizes are from.
        build: makes it.

    Raises:
        ConfigError: they would.
    """
    _empty(where, build)
    return build()


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a safetensors file, on the CPU; they take as much memory as the file.

    Raises:
        DataError: the file cannot be read, or is damaged; so too SafetensorError.
    """
    read_tensor_header(path)
    return load_file(path)


def load_weights(path: Path, build: Callable[[], Module], prefix: str) -> Module:
    """Return a module with the weights of a safetensors file, on the CPU.

    Args:
        path: of the file.
        build: makes the module; its own weights do not matter.
        prefix: of the names in the file that belong to it; others are left alone.

    Raises:
        DataError: the file is no safetensors file, or damaged.
        ConfigError: the module would be larger than limit ``encoder``; or the file's weights have other names, shapes
            or dtypes than the module's, or values that are not finite.
        OSError: the file cannot be read; so too SafetensorError.
    """
    module = _empty(path, build)
    names = module.state_dict()
    _check(path, read_tensor_header(path), names, prefix)
    module = module.to_empty(device="cpu")
    state: dict[str, Tensor] = {}
    with safe_open(path, framework="pt") as file:
        for name in names:
            state[name] = file.get_tensor(prefix + name)
            if not bool(state[name].isfinite().all()):
                raise ConfigError(f"{path}: not a usable checkpoint ({prefix + name} has values that are not finite)")
    module.load_state_dict(state)
    return module


def _empty(where: Path, build: Callable[[], Module]) -> Module:
    """Return the module without memory for its weights."""
    with torch.device("meta"):
        module = build()
    size = sum(tensor.numel() * tensor.itemsize for tensor in module.state_dict().values())
    if size > limit("encoder"):
        raise ConfigError(f"{where}: an encoder of these sizes has {size} bytes of weights; {raising('encoder')}")
    return module


def _check(path: Path, header: TensorHeader, expected: dict[str, Tensor], prefix: str) -> None:
    found = {name.removeprefix(prefix) for name in header.tensors if name.startswith(prefix)}
    if found != expected.keys():
        differing = sorted(found ^ expected.keys())
        what = f"{shown(differing[0])} is {'missing' if differing[0] in expected else 'unknown'}"
        raise ConfigError(f"{path}: not a usable checkpoint (of other sizes: {what})")
    for name, tensor in expected.items():
        entry = header.tensors[prefix + name]
        if entry.shape != tuple(tensor.shape) or entry.dtype != "F32":
            raise ConfigError(
                f"{path}: not a usable checkpoint ({prefix + name} is {entry.dtype} {entry.shape}, "
                f"expected F32 {tuple(tensor.shape)}, as the run's recipe and data say)"
            )
