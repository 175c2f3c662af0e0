"""What ptxas reports, from canned text and from nvcc itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import kernels
import pytest
from kernels import Kernel, markdown, read_report, shorten

ROOT = Path(__file__).parents[2]
NVCC = os.environ.get("CUDACXX") or shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="needs nvcc")

SPILLING = """
__global__ void greedy(const float* in, float* out) {
  float kept[64];
  for (int i = 0; i < 64; ++i) kept[i] = in[threadIdx.x + 32 * i];
  for (int turn = 0; turn < 8; ++turn) {
    for (int i = 0; i < 64; ++i) kept[i] = kept[i] * kept[(i * 7 + 3) % 64] + kept[(i + 1) % 64];
  }
  for (int i = 0; i < 64; ++i) out[threadIdx.x + 32 * i] = kept[i];
}
"""


@needs_nvcc
def test_motion_diff_is_listed_on_every_architecture_of_the_build():
    command = (sys.executable, "bench/kernels.py", "--source", "motion_diff.cu")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Values for sm_" in ran.stdout
    assert "| motion_diff.cu | `stencil_kernel<Velocity, float, 4>` |" in ran.stdout
    assert "| motion_diff.cu | `stencil_kernel<VelocityGrad, double, 2>` |" in ran.stdout


@needs_nvcc
def test_a_spill_is_seen(tmp_path):
    source = tmp_path / "greedy.cu"
    source.write_text(SPILLING)
    command = f"{NVCC} -arch=sm_80 -maxrregcount=24 -MD -MF greedy.d -c {source} -o greedy.o"
    (kernel,) = kernels.examine(source, (command, tmp_path))
    assert (kernel.name, kernel.arch) == ("greedy", "80")
    assert kernel.registers <= 24
    assert kernel.spill_stores > 0
    assert kernel.spill_loads > 0
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(("stores", "code"), [(0, 0), (8, 1)])
def test_the_exit_code_says_whether_anything_spills(monkeypatch, capsys, stores, code):
    kernel = Kernel("a.cu", "f", "80", 40, 0, stores, 0)
    monkeypatch.setattr(kernels, "compile_commands", lambda build: {Path("a.cu"): ("", Path())})
    monkeypatch.setattr(kernels, "examine", lambda source, command: [kernel])
    with pytest.raises(kernels.typer.Exit) as exit_:
        kernels.main(build=Path())
    assert exit_.value.exit_code == code
    assert ("f spills on sm_80" in capsys.readouterr().err) == bool(code)


def test_a_report_is_read():
    report = """
ptxas info    : Compiling entry function 'first' for 'sm_80'
ptxas info    : Function properties for first
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 96 registers, used 1 barriers, 1024 bytes smem, 432 bytes cmem[0]
ptxas info    : Compiling entry function 'second' for 'sm_90a'
ptxas info    : Function properties for second
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers
"""
    assert list(read_report("a.cu", report)) == [
        Kernel("a.cu", "first", "80", 96, 1024, 0, 0),
        Kernel("a.cu", "second", "90a", 255, 0, 8, 12),
    ]


@pytest.mark.parametrize(
    ("name", "short"),
    [
        (
            "void crrl::(anonymous namespace)::copy<crrl::(anonymous namespace)::Add, (int)4>(float*, long)",
            "copy<Add, 4>",
        ),
        ("crrl::scale(float*, (anonymous namespace)::Shape)", "scale"),
        ("void f<float, true>(T1*)", "f<float, true>"),
    ],
)
def test_names_are_short(name, short):
    assert shorten(name) == short


def test_architectures_share_a_cell_where_they_agree():
    table = markdown([Kernel("a.cu", "f", arch, registers, 64, 0, 0) for arch, registers in (("80", 40), ("90", 52))])
    assert "| a.cu | `f` | 40, 52 | 64 | 0 | 0 |" in table
