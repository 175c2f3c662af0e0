"""The training loop of one stage."""

from __future__ import annotations

import bisect
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.errors import TrainingError
from crrl_fast.training.distributed import ALONE, Ranks
from crrl_fast.training.graphs import best_way_to_take
from crrl_fast.training.step import TrainingStep


def train_stage(
    name: str,
    module: nn.Module,
    clips: ResidentClips,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    ranks: Ranks = ALONE,
    on_step: Callable[[int], None],
    on_epoch: Callable[[dict[str, Any]], None],
) -> None:
    """Train ``module``, whose forward maps a batch to a dictionary of scalar losses with ``loss`` among them.

    Args:
        name: of the stage.
        module: on the device of ``clips``.
        clips: the training clips.
        recipe: epochs, batch size, shuffling, optimiser, schedule, clipping and precision.
        generator: of the shuffling, in the same state on all ranks.
        ranks: the processes that train together.
        on_step: called after each step has been given to the device, with its number of clips. Losses are read back
            once an epoch, so that the device is never waited for within one.
        on_epoch: called after each epoch with its record: stage, epoch (from 1), mean losses over clips, lr, seconds
            and clips_per_second.

    Raises:
        TrainingError: an epoch's mean loss is not finite.
    """
    step = TrainingStep(module, clips, recipe, ranks)
    take = best_way_to_take(step, clips, recipe)
    for epoch in range(1, recipe.epochs + 1):
        started = time.perf_counter()
        lr = learning_rate(recipe, epoch)
        step.begin_epoch(lr)
        sizes = []
        for position, frames in clips.shuffled(recipe.batch_size, generator, recipe.length_buckets):
            take(position, frames)
            sizes.append(len(position))
            on_step(len(position))
        weights = torch.tensor(sizes, dtype=torch.float64) / len(clips)
        means = {part: float(weights @ values) for part, values in step.losses().items()}
        seconds = time.perf_counter() - started
        if not math.isfinite(means["loss"]):
            raise TrainingError(
                f"{name}: the loss is {means['loss']} in epoch {epoch}: lower lr (now {lr}) or clip_grad_norm "
                f"(now {recipe.clip_grad_norm})"
            )
        on_epoch(
            {
                "stage": name,
                "epoch": epoch,
                **means,
                "lr": lr,
                "seconds": seconds,
                "clips_per_second": len(clips) / seconds,
            }
        )


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """Return the learning rate in ``epoch``, counted from 1."""
    return recipe.lr * recipe.lr_decay ** bisect.bisect_left(recipe.lr_milestones, epoch)
