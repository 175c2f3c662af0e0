"""What was built, what runs, and what does not fit: facts are gathered first, and judged by rules apart from that."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from packaging.version import InvalidVersion, Version
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from crrl_fast import _ext
from crrl_fast._ext import REBUILD, BuildInfo


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch can use."""

    name: str
    capability: tuple[int, int]


@dataclass(frozen=True)
class Running:
    """The software and hardware of this process."""

    python: str
    torch: str
    torch_cuda: str | None
    gpus: tuple[Gpu, ...]
    driver_gpus: tuple[str, ...]
    """The names of the GPUs that the NVIDIA driver reports, whether torch can use them or not."""
    threads: int
    cores: int
    omp_num_threads: str | None
    cpu_capability: str
    """The widest instruction set that torch uses here."""


@dataclass(frozen=True)
class Problem:
    """Something that does not fit, and what to do about it."""

    what: str
    cure: str


@dataclass(frozen=True)
class Report:
    """The facts and the problems found in them."""

    built: BuildInfo | None
    import_error: str | None
    running: Running
    problems: tuple[Problem, ...] = ()


def examine() -> Report:
    """Gather the facts of this process and judge them."""
    report = Report(_ext.build_info(), _ext.import_error, gather())
    return Report(report.built, report.import_error, report.running, tuple(find_problems(report)))


def gather() -> Running:
    """Ask torch, the driver and the operating system."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = (Gpu(torch.cuda.get_device_name(i), torch.cuda.get_device_capability(i)) for i in range(count))
    return Running(
        python=platform.python_version(),
        torch=torch.__version__,
        torch_cuda=torch.version.cuda,
        gpus=tuple(gpus),
        driver_gpus=_driver_gpus(),
        threads=torch.get_num_threads(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        omp_num_threads=os.environ.get("OMP_NUM_THREADS"),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
    )


def _driver_gpus() -> tuple[str, ...]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        asked = subprocess.run(
            [tool, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return ()  # the tool is there, but no driver answers it
    return tuple(line.strip() for line in asked.stdout.splitlines() if line.strip())


def find_problems(report: Report) -> Iterator[Problem]:
    """Judge the facts; each rule yields what it finds."""
    yield from _judge_torch(report.running)
    yield from _judge_threads(report.running)
    if report.built is None:
        yield Problem(f"the compiled ops are missing: {report.import_error}", REBUILD)
        return
    yield from _judge_build(report.built, report.running)
    if report.built.cuda is None:
        if report.running.gpus:
            yield Problem(
                "a GPU is usable, but the compiled ops were built without CUDA",
                f"with nvcc on PATH: CRRL_CUDA=on {REBUILD}",
            )
        return
    yield from _judge_cuda(report.built, report.running)


def _judge_torch(running: Running) -> Iterator[Problem]:
    if running.driver_gpus and running.torch_cuda is None:
        yield Problem(
            f"the driver reports {running.driver_gpus[0]}, but this torch ({running.torch}) is CPU-only",
            "install a CUDA build of torch (https://pytorch.org/get-started/locally/), then rebuild crrl-fast",
        )
    elif running.driver_gpus and not running.gpus:
        yield Problem(
            f"the driver reports {running.driver_gpus[0]}, but torch {running.torch} cannot use it",
            f"check CUDA_VISIBLE_DEVICES, and that the driver is new enough for CUDA {running.torch_cuda}",
        )


def _judge_threads(running: Running) -> Iterator[Problem]:
    if running.omp_num_threads == "1" and running.threads == 1 and running.cores > 1:
        yield Problem(
            f"OMP_NUM_THREADS=1 keeps the CPU work on 1 of {running.cores} cores", "unset OMP_NUM_THREADS, or raise it"
        )


def _judge_build(built: BuildInfo, running: Running) -> Iterator[Problem]:
    if not same_release(built.torch, running.torch):
        yield Problem(f"the compiled ops were built against torch {built.torch}, but {running.torch} runs", REBUILD)


def _judge_cuda(built: BuildInfo, running: Running) -> Iterator[Problem]:
    if running.torch_cuda is not None and built.cuda is not None:
        toolkit, runtime = Version(built.cuda).major, Version(running.torch_cuda).major
        if toolkit != runtime:
            yield Problem(
                f"the compiled ops were built with CUDA {built.cuda}, but torch uses CUDA {running.torch_cuda}",
                f"with an nvcc of CUDA {runtime} on PATH: {REBUILD}",
            )
    for gpu in running.gpus:
        if not covers(built.cuda_architectures, gpu.capability):
            number = "{}{}".format(*gpu.capability)
            yield Problem(
                f"{gpu.name} has compute capability {gpu.capability[0]}.{gpu.capability[1]}, which the compiled ops "
                f"({', '.join(built.cuda_architectures)}) do not cover",
                f"CMAKE_CUDA_ARCHITECTURES={number} {REBUILD}",
            )


def same_release(built: str, running: str) -> bool:
    """Say whether two torch versions share their C++ interface: the same release; patches and build tags may differ."""
    try:
        first, second = Version(built), Version(running)
    except InvalidVersion:
        return built == running
    return first.release[:2] == second.release[:2]


def covers(architectures: tuple[str, ...], capability: tuple[int, int]) -> bool:
    """Say whether code for these CMake architectures runs on a GPU of this compute capability.

    Machine code runs on later minor versions of its own major one, PTX on every later version; an architecture that
    ends in ``a`` or ``f`` is bound to its own chip or family and is taken to cover its own version only.
    """
    for architecture in architectures:
        number, _, kind = architecture.partition("-")
        digits = number.rstrip("af")
        if not digits.isdigit():
            return True  # native, all, all-major: CMake chose for us
        target = int(digits[:-1]), int(digits[-1])
        if target == capability:
            return True
        portable = digits == number and target < capability
        if portable and (kind != "real" or target[0] == capability[0]):
            return True
    return False


def render(report: Report) -> RenderableType:
    """Lay the report out for a terminal."""
    parts: list[RenderableType] = [
        _facts("built", _built_rows(report.built)),
        _facts("running", _running_rows(report.running)),
    ]
    for problem in report.problems:
        parts.append(Panel(Text(f"{problem.what}\ncure: {problem.cure}"), title="problem", border_style="red"))
    if not report.problems:
        parts.append(Text("no problems found", style="green"))
    return Group(*parts)


def _facts(title: str, rows: list[tuple[str, str]]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def _built_rows(built: BuildInfo | None) -> list[tuple[str, str]]:
    if built is None:
        return [("compiled ops", "none: the plain-PyTorch reference runs")]
    return [
        ("crrl-fast", built.version),
        ("against torch", built.torch),
        ("CUDA", built.cuda or "none: CPU only"),
        ("CUDA architectures", ", ".join(built.cuda_architectures) or "none"),
        ("CPU instruction sets", ", ".join(built.cpu_isas)),
        ("compiler", built.compiler),
        ("C++ ABI", "CXX11" if built.cxx11_abi else "pre-CXX11"),
    ]


def _running_rows(running: Running) -> list[tuple[str, str]]:
    gpus = [f"{gpu.name} (compute capability {gpu.capability[0]}.{gpu.capability[1]})" for gpu in running.gpus]
    return [
        ("python", running.python),
        ("torch", running.torch),
        ("CUDA of torch", running.torch_cuda or "none: CPU only"),
        ("GPUs", "\n".join(gpus) or "none"),
        ("CPU threads", f"{running.threads} of {running.cores} cores"),
        ("CPU capability", running.cpu_capability),
    ]
