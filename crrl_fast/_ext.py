"""The only importer of the compiled module ``crrl_fast._C``.

Importing it registers the ops as ``torch.ops.crrl_fast``. Where it is absent, or lacks the CUDA kernels that this
machine could run, one warning names cause and cure and the ops run their plain-PyTorch reference;
``CRRL_EXT=required`` makes that an ImportError.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from types import ModuleType

import torch  # first: crrl_fast._C links against the libraries that this loads

REBUILD = "pip install --no-build-isolation --force-reinstall --no-deps . (from the source tree, with this python)"


class ExtensionWarning(RuntimeWarning):
    """The compiled ops cannot be used, or not on every device, and the plain-PyTorch reference runs instead."""


@dataclass(frozen=True)
class BuildInfo:
    """What the compiled module was made of."""

    version: str
    torch: str
    cuda: str | None
    """Version of the CUDA compiler; None in a CPU-only build."""
    cuda_architectures: tuple[str, ...]
    """As CMake writes them: ``80-real`` is machine code only, ``90-virtual`` PTX only, ``90`` both."""
    compiler: str
    cpu_isas: tuple[str, ...]
    """Instruction sets compiled in, from the baseline up; the widest that the processor has is chosen at run time."""
    cxx11_abi: bool


def _load() -> tuple[ModuleType | None, str | None]:
    """Return the compiled module, or None and why not."""
    try:
        from crrl_fast import _C
    except ImportError as error:
        return None, f"the compiled module crrl_fast._C cannot be imported ({error})"
    return _C, None


def _read(compiled: ModuleType) -> BuildInfo:
    raw = compiled.build_info()
    return BuildInfo(
        version=raw["version"],
        torch=raw["torch"],
        cuda=raw["cuda"] or None,
        cuda_architectures=tuple(filter(None, raw["cuda_architectures"].split(";"))),
        compiler=raw["compiler"],
        cpu_isas=tuple(raw["cpu_isas"].split(";")),
        cxx11_abi=raw["cxx11_abi"],
    )


def _shortfall(cause: str | None, info: BuildInfo | None) -> str | None:
    """Return what keeps the compiled ops from running somewhere on this machine, with its cure."""
    if info is None:
        return f"{cause}: the ops run their slower plain-PyTorch reference. Build it with: {REBUILD}"
    if info.cuda is None and torch.cuda.is_available():
        return (
            "the compiled module was built without CUDA: on CUDA tensors the ops run their slower plain-PyTorch "
            f"reference. Put nvcc on PATH, then: CRRL_CUDA=on {REBUILD}"
        )
    return None


module, import_error = _load()
"""The compiled module, for what it holds besides ops; None where it is absent."""
_info = _read(module) if module is not None else None
available = _info is not None

has_bfloat16_products: bool = module is not None and module.has_bfloat16_products()
"""Whether this processor multiplies bfloat16 numbers faster than float32 ones; where not, the CPU's ops do not."""

device_types: frozenset[str] = frozenset()
"""The device types whose tensors the compiled ops take; meta tensors only pass through their shape functions."""
if _info is not None:
    device_types = frozenset({"cpu", "meta"} if _info.cuda is None else {"cpu", "meta", "cuda"})


def build_info() -> BuildInfo | None:
    """Return what the compiled module was made of, or None where it is absent."""
    return _info


_message = _shortfall(import_error, _info)
if _message is not None:
    if os.environ.get("CRRL_EXT") == "required":
        raise ImportError(f"CRRL_EXT=required, but {_message}")
    warnings.warn(_message, ExtensionWarning, stacklevel=2)
