"""The build, from a copy of the source tree."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNOPTIMISED = {"CMAKE_ARGS": "-DCMAKE_CXX_FLAGS_RELEASE=-O0"}


def copy_sources(target: Path) -> Path:
    """Copy what the build needs, and nothing that was built."""
    shutil.copytree(ROOT / "crrl_fast", target / "crrl_fast", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copytree(ROOT / "csrc", target / "csrc")
    for name in ("CMakeLists.txt", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, target)
    return target


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return copy_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def wheel(sources, tmp_path_factory):
    """Build a CPU-only wheel."""
    out = tmp_path_factory.mktemp("wheel")
    command = ("-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(out), ".")
    # Not optimised, for the compiler's time: what the code computes is tested elsewhere.
    built = run(*command, cwd=sources, CRRL_CUDA="off", **UNOPTIMISED)
    assert built.returncode == 0, built.stdout
    (path,) = out.glob("*.whl")
    return path


def test_wheel_works_outside_the_source_tree(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = """
import torch, crrl_fast, crrl_fast._C
from crrl_fast.ops import motion_diff
print(crrl_fast.__file__, crrl_fast._C.__file__, repr(crrl_fast._C.build_info()["cuda"]))
assert motion_diff(torch.tensor([[1.0, 3.0]])).tolist() == [[2.0, 0.0]]
"""
    ran = run("-c", code, cwd=tmp_path, PYTHONPATH=str(site), CRRL_EXT="")
    assert ran.returncode == 0, ran.stdout
    package, module, cuda = ran.stdout.splitlines()[-1].split()
    assert Path(package).is_relative_to(site)
    assert Path(module).is_relative_to(site)
    assert cuda == "''"
    assert (site / "crrl_fast" / "py.typed").exists()
    assert (site / "crrl_fast/data/readers/ntu/missing.txt").exists()


def test_second_build_compiles_nothing(wheel, sources):
    again = run("setup.py", "build_ext", cwd=sources, CRRL_CUDA="off", **UNOPTIMISED)
    assert again.returncode == 0, again.stdout
    assert "Building CXX object" not in again.stdout


def test_cuda_on_without_nvcc_says_what_to_do(tmp_path):
    folders = ["/usr/local/cuda/bin", *os.environ["PATH"].split(os.pathsep)]
    hidden = ";".join(folder for folder in folders if (Path(folder) / "nvcc").exists())
    blind = {"CMAKE_ARGS": f"'-DCMAKE_IGNORE_PATH={hidden}'", "CUDACXX": "", "CUDA_HOME": "", "CUDA_PATH": ""}
    ran = run("setup.py", "build_ext", cwd=copy_sources(tmp_path / "on"), CRRL_CUDA="on", **blind)
    assert ran.returncode != 0
    message = " ".join(ran.stdout.split())
    assert "CRRL_CUDA=on, but no nvcc was found" in message
    assert "CRRL_CUDA=off" in message


def test_cuda_takes_three_values(tmp_path):
    ran = run("setup.py", "build_ext", cwd=copy_sources(tmp_path / "maybe"), CRRL_CUDA="maybe")
    assert ran.returncode != 0
    assert "CRRL_CUDA is 'maybe'; it must be auto, on or off" in ran.stdout


@pytest.mark.parametrize("source", sorted((ROOT / "csrc").glob("*.cu")), ids=lambda path: path.name)
def test_cuda_sources_include_no_torch_header(source):
    assert torch_includes(source) == []


def torch_includes(source: Path) -> list[str]:
    """Return the torch headers that a source includes, by itself or through our own headers."""
    found, waiting, seen = [], [source], set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        for header in re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE):
            if header.split("/")[0] in ("torch", "ATen", "c10", "caffe2"):
                found.append(f"{path.name}: {header}")
            own = path.parent / header
            if own.exists() and own not in seen:
                waiting.append(own)
    return found


def test_the_check_for_torch_headers_sees_through_our_own():
    assert torch_includes(ROOT / "csrc" / "motion_diff_op.cpp")
    assert any(line.startswith("checks.h") for line in torch_includes(ROOT / "csrc" / "motion_diff_op.cpp"))
