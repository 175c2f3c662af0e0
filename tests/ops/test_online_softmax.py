"""The softmax of a tile, as each instruction set that it is compiled for computes it."""

import platform
from pathlib import Path

import pytest
from torch.utils import cpp_extension

FLAGS = {"x86-64": (), "x86-64-v3": ("avx2", "fma", "bmi2"), "x86-64-v4": ("avx512f", "avx512bw", "avx512vl")}


@pytest.mark.parametrize("isa", FLAGS)
def test_equals_the_definition(run_cpp, isa):
    processor = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not processor.exists():
        pytest.skip("not an x86-64 Linux machine")
    if not set(FLAGS[isa]) <= set(processor.read_text().split()):
        pytest.skip(f"this processor does not run {isa}")
    run_cpp(
        Path(__file__).with_name("online_softmax.cpp"),
        f"-march={isa}",
        *("-ffp-contract=fast", "-Wno-psabi", "-DCRRL_SIMD_CLONES="),  # compiled for this one alone
        *(f"-isystem{folder}" for folder in cpp_extension.include_paths()),
    )
