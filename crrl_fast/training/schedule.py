"""The learning rate of each step of a stage."""

from __future__ import annotations

import bisect
import math

from crrl_fast.config import Recipe


class Schedule:
    """The learning rates of a stage, known before it begins.

    In the first ``warmup`` share of the steps the rate rises linearly from one step to the next, up to that of the
    first step after them. ``milestones`` decays the rate after some epochs, which count from the beginning of the
    stage; ``cosine`` takes it from ``lr`` to 0 along half a wave (Loshchilov and Hutter, arXiv 1608.03983, without
    restarts), which begins where the warm-up ends and would reach 0 one step after the last.

    Args:
        recipe: learning rate, schedule, warm-up and length of the stage.
        clips: training clips.
    """

    def __init__(self, recipe: Recipe, clips: int) -> None:
        self._recipe = recipe
        self._steps_per_epoch = recipe.steps_per_epoch(clips)
        self._steps = recipe.epochs_on(clips) * self._steps_per_epoch
        self._warmup = round(recipe.warmup * self._steps)

    def lr(self, epoch: int, step: int) -> float:
        """Return the learning rate of a step.

        Args:
            epoch: from 1; past the last, ``milestones`` goes on, and ``cosine`` stays at 0.
            step: of that epoch, from 0.
        """
        recipe = self._recipe
        done = (epoch - 1) * self._steps_per_epoch + step
        rate = recipe.lr
        if recipe.lr_schedule == "milestones":
            rate *= recipe.lr_decay ** bisect.bisect_left(recipe.lr_milestones, epoch)
        elif done >= self._steps:
            return 0.0
        elif done > self._warmup:
            rate *= (1 + math.cos(math.pi * (done - self._warmup) / (self._steps - self._warmup))) / 2
        return rate * (done + 1) / (self._warmup + 1) if done < self._warmup else rate

    def last_lr(self, epoch: int) -> float:
        """Return the learning rate of the last step of ``epoch``, counted from 1."""
        return self.lr(epoch, self._steps_per_epoch - 1)
