"""The instruction sets that hot loops are compiled for, one by one."""

import platform
from pathlib import Path

import pytest
from torch.utils import cpp_extension

_FEATURES = {"x86-64": (), "x86-64-v3": ("avx2", "fma", "bmi2"), "x86-64-v4": ("avx512f", "avx512bw", "avx512vl")}

each_isa = pytest.mark.parametrize("isa", _FEATURES)


def run_on_isa(run_cpp, source: Path, isa: str) -> None:
    """Run a C++ test compiled for one instruction set alone; the test skips where the processor lacks it."""
    processor = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not processor.exists():
        pytest.skip("not an x86-64 Linux machine")
    if not set(_FEATURES[isa]) <= set(processor.read_text().split()):
        pytest.skip(f"this processor does not run {isa}")
    run_cpp(
        source,
        f"-march={isa}",
        *("-ffp-contract=fast", "-Wno-psabi", "-DCRRL_SIMD_CLONES="),
        *(f"-isystem{folder}" for folder in cpp_extension.include_paths()),
    )
