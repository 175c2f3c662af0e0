"""Timing of our ops beside their baselines, in the same run."""

from crrl_fast.benchmark.gru import run_gru_benchmark
from crrl_fast.benchmark.ops import run_cases, run_ops_benchmark
from crrl_fast.benchmark.plot import plot, require_matplotlib
from crrl_fast.benchmark.record import BenchmarkRecord
from crrl_fast.benchmark.render import markdown, render

__all__ = [
    "BenchmarkRecord",
    "markdown",
    "plot",
    "render",
    "require_matplotlib",
    "run_cases",
    "run_gru_benchmark",
    "run_ops_benchmark",
]
