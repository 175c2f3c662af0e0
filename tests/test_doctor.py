import io
from dataclasses import replace

import pytest
from rich.console import Console

from crrl_fast import doctor
from crrl_fast._ext import BuildInfo
from crrl_fast.doctor import Gpu, Report, Running, covers, find_problems, render, same_release

CPU_BUILD = BuildInfo("0.1.0", "2.13.0+cpu", None, (), "GNU 12.2.0", ("x86-64", "x86-64-v3 (AVX2)"), True)
CUDA_BUILD = replace(CPU_BUILD, torch="2.13.0+cu130", cuda="13.0.88", cuda_architectures=("80-real", "86-real", "90"))
H100 = Gpu("NVIDIA H100", (9, 0))
CPU_ONLY = Running("3.11.7", "2.13.0+cpu", None, (), (), 8, 8, None, "AVX2")
WITH_GPU = replace(CPU_ONLY, torch="2.13.0+cu130", torch_cuda="13.0", gpus=(H100,), driver_gpus=("NVIDIA H100",))


def problems(built: BuildInfo | None, running: Running, import_error: str | None = None) -> list[str]:
    found = list(find_problems(Report(built, import_error, running)))
    assert all(problem.cure for problem in found)
    return [problem.what for problem in found]


def only_problem(built: BuildInfo | None, running: Running, import_error: str | None = None) -> str:
    (what,) = problems(built, running, import_error)
    return what


@pytest.mark.parametrize(("built", "running"), [(CPU_BUILD, CPU_ONLY), (CUDA_BUILD, WITH_GPU), (CUDA_BUILD, CPU_ONLY)])
def test_what_fits_is_not_complained_about(built, running):
    assert problems(built, running) == []


def test_missing_extension():
    assert "undefined symbol: x" in only_problem(None, CPU_ONLY, "undefined symbol: x")


@pytest.mark.parametrize(
    ("built", "running", "same"),
    [
        ("2.13.0+cpu", "2.13.0+cpu", True),
        ("2.13.0+cpu", "2.13.1+cu130", True),
        ("2.13.0a0+gitabc", "2.13.0", True),
        ("2.1.0", "2.13.0", False),
        ("2.13.0", "2.2.0", False),
        ("2.13.0", "3.13.0", False),
        ("local", "local", True),
        ("local", "2.13.0", False),
    ],
)
def test_torch_versions_are_compared_as_versions(built, running, same):
    assert same_release(built, running) is same


def test_built_against_another_torch():
    what = only_problem(replace(CPU_BUILD, torch="2.9.1+cpu"), CPU_ONLY)
    assert "2.9.1+cpu" in what
    assert "2.13.0+cpu" in what


def test_gpu_but_built_without_cuda():
    assert "built without CUDA" in only_problem(CPU_BUILD, WITH_GPU)


def test_gpu_that_torch_is_not_built_for():
    assert "CPU-only" in only_problem(CPU_BUILD, replace(CPU_ONLY, driver_gpus=("NVIDIA H100",)))


def test_gpu_that_torch_cannot_use():
    assert "cannot use it" in only_problem(CUDA_BUILD, replace(WITH_GPU, gpus=()))


def test_cuda_of_another_major_version():
    what = only_problem(replace(CUDA_BUILD, cuda="12.8.93"), WITH_GPU)
    assert "12.8.93" in what
    assert "13.0" in what
    assert problems(replace(CUDA_BUILD, cuda="13.2.1"), WITH_GPU) == []


def test_gpu_that_the_build_does_not_cover():
    turing = Gpu("NVIDIA T4", (7, 5))
    found = list(find_problems(Report(CUDA_BUILD, None, replace(WITH_GPU, gpus=(H100, turing)))))
    assert len(found) == 1
    assert "NVIDIA T4 has compute capability 7.5" in found[0].what
    assert "CMAKE_CUDA_ARCHITECTURES=75" in found[0].cure


@pytest.mark.parametrize(
    ("architectures", "capability", "covered"),
    [
        (("80-real",), (8, 0), True),
        (("80-real",), (8, 9), True),  # machine code runs on later minor versions
        (("80-real",), (9, 0), False),  # but not on another major one
        (("86-real",), (8, 0), False),
        (("90",), (12, 0), True),  # by its PTX
        (("90-virtual",), (10, 3), True),
        (("90",), (8, 6), False),
        (("90a-real",), (9, 0), True),
        (("90a",), (10, 0), False),
        (("100f",), (10, 3), False),
        (("120",), (12, 0), True),
        (("native",), (8, 6), True),
        ((), (9, 0), False),
    ],
)
def test_which_gpus_an_architecture_covers(architectures, capability, covered):
    assert covers(architectures, capability) is covered


def test_one_thread_on_many_cores():
    assert "1 of 8 cores" in only_problem(CPU_BUILD, replace(CPU_ONLY, threads=1, omp_num_threads="1"))
    assert problems(CPU_BUILD, replace(CPU_ONLY, threads=1, omp_num_threads="1", cores=1)) == []
    assert problems(CPU_BUILD, replace(CPU_ONLY, threads=1)) == []  # a choice made in the program


def test_facts_of_this_process_are_rendered():
    report = doctor.examine()
    text = rendered(report)
    assert report.running.torch in text
    assert f"{report.running.threads} of {report.running.cores} cores" in text


def test_problems_are_rendered_with_their_cures():
    report = Report(CUDA_BUILD, None, WITH_GPU)
    assert "no problems found" in rendered(report)
    text = rendered(replace(report, problems=(doctor.Problem("[x] is off", "mend [x]"),)))
    assert "[x] is off" in text
    assert "cure: mend [x]" in text
    assert "none: the plain-PyTorch reference runs" in rendered(replace(report, built=None))


def rendered(report: Report) -> str:
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(render(report))
    return console.export_text()
