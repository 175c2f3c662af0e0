"""Timing of our ops beside their baselines, in the same run."""

from crrl_fast.benchmark.ops import run_ops_benchmark
from crrl_fast.benchmark.record import BenchmarkRecord
from crrl_fast.benchmark.render import markdown, render

__all__ = ["BenchmarkRecord", "markdown", "render", "run_ops_benchmark"]
