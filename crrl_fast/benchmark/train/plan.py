"""What a run of the benchmark measures, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from crrl_fast.benchmark.train.stock import STAGES
from crrl_fast.config import Recipe
from crrl_fast.errors import ConfigError
from crrl_fast.recipes import get_recipe

WARM_UP = 2
"""Steps before the first round; the optimiser's state and the libraries' plans are there after the first."""


@dataclass(frozen=True)
class Plan:
    """The same for every data set.

    Attributes:
        device: where to train.
        stages: of ``ser``, ``cml`` and ``inf``.
        rounds: timed rounds of each stage.
        steps: steps of each contender in a round.
        curve_steps: steps whose losses are compared, on the first data set; 0 compares none.
        growth: whether ours is also timed on generated stores of growing size.
        seed: of weights, batches and generated clips.
        recipe: hyperparameters.
    """

    device: torch.device
    stages: tuple[str, ...] = ("cml", "inf")
    rounds: int = 10
    steps: int = 5
    curve_steps: int = 200
    growth: bool = False
    seed: int = 0
    recipe: Recipe = field(default_factory=lambda: get_recipe("paper"))

    def __post_init__(self) -> None:
        """Check the stages and the numbers.

        Raises:
            ConfigError: a stage is unknown or stands twice, or a number is too small.
        """
        for stage in self.stages:
            if stage not in STAGES:
                raise ConfigError(f"unknown stage {stage!r}: choose from {', '.join(STAGES)}, which the release has")
        if not self.stages or len(set(self.stages)) < len(self.stages):
            raise ConfigError(f"--stages {','.join(self.stages)!r}: name each stage once, for instance cml,inf")
        for name, least in (("rounds", 1), ("steps", 1), ("curve_steps", 0)):
            if getattr(self, name) < least:
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(f"{option} must be at least {least}, got {getattr(self, name)}")

    @property
    def distills(self) -> bool:
        """Whether stage ``inf`` is measured, which needs a teacher."""
        return "inf" in self.stages

    @property
    def batches(self) -> int:
        """Batches that a contender takes in a stage."""
        return WARM_UP + self.rounds * self.steps

    def batches_of_round(self, turn: int) -> range:
        """Return the numbers of the batches of a round."""
        first = WARM_UP + turn * self.steps
        return range(first, first + self.steps)
