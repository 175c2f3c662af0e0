"""Training measured end to end: the release's algorithm in stock PyTorch beside the trainer, in one run."""

from crrl_fast.benchmark.train.plan import Plan
from crrl_fast.benchmark.train.plot import plot
from crrl_fast.benchmark.train.record import TrainRecord
from crrl_fast.benchmark.train.render import disagreement, markdown, render
from crrl_fast.benchmark.train.run import run_train_benchmark

__all__ = ["Plan", "TrainRecord", "disagreement", "markdown", "plot", "render", "run_train_benchmark"]
