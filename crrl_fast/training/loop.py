"""The training loop of one stage."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.errors import TrainingError


def train_stage(
    name: str,
    module: nn.Module,
    clips: ResidentClips,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    on_step: Callable[[int], None],
    on_epoch: Callable[[dict[str, Any]], None],
) -> None:
    """Train ``module``, whose forward maps a batch to a dictionary of scalar losses with ``loss`` among them.

    Args:
        name: of the stage.
        module: on the device of ``clips``.
        clips: the training clips.
        recipe: epochs, batch size, optimiser, schedule, clipping and precision.
        generator: of the shuffling.
        on_step: called after each step with its number of clips; losses are not read back there, so that the device
            is never waited for within an epoch.
        on_epoch: called after each epoch with its record: stage, epoch (from 1), mean losses over clips, lr, seconds
            and clips_per_second.

    Raises:
        TrainingError: an epoch's mean loss is not finite.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(
        parameters, lr=recipe.lr, momentum=recipe.sgd_momentum, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(recipe.lr_milestones), recipe.lr_decay)
    autocast = torch.autocast(clips.device.type, torch.bfloat16, enabled=recipe.precision == "bf16")
    for epoch in range(1, recipe.epochs + 1):
        module.train()
        started = time.perf_counter()
        lr = schedule.get_last_lr()[0]
        totals: dict[str, torch.Tensor] = {}
        for position, frames in clips.shuffled(recipe.batch_size, generator):
            with autocast:
                losses = module(clips.batch(position, frames))
            optimizer.zero_grad()
            losses["loss"].backward()
            if recipe.clip_grad_norm > 0:
                nn.utils.clip_grad_norm_(parameters, recipe.clip_grad_norm)
            optimizer.step()
            size = len(position)
            for part, value in losses.items():
                totals[part] = totals.get(part, 0) + size * value.detach()
            on_step(size)
        schedule.step()
        means = {part: float(total) / len(clips) for part, total in totals.items()}
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
