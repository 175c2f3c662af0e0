"""Stock and ours as contenders that take the same steps from the same weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from crrl_fast.benchmark.train import ours, stock
from crrl_fast.benchmark.train.host import HostBatch, HostClips, batches_in_order
from crrl_fast.benchmark.train.plan import Plan
from crrl_fast.benchmark.train.preparation import Prepared
from crrl_fast.benchmark.train.record import OURS, OURS_BF16, STOCK
from crrl_fast.benchmark.train.workload import Workload
from crrl_fast.config import Recipe
from crrl_fast.errors import TrainingError
from crrl_fast.seeding import seed_everything


@dataclass(frozen=True)
class Contender:
    """One way to train.

    Attributes:
        name: as in the record.
        products: dtype of its matrix products.
        step: takes the next step; the loss may still lie on the device.
    """

    name: str
    products: torch.dtype
    step: Callable[[], Tensor | float]

    def run(self, steps: int) -> list[float]:
        """Take the next steps and return their losses, which are read after the last.

        Raises:
            TrainingError: a loss is not finite.
        """
        losses = [float(loss) for loss in [self.step() for _ in range(steps)]]
        if not all(map(math.isfinite, losses)):
            raise TrainingError(f"{self.name}: a loss is not finite: {losses}")
        return losses


Builder = Callable[[], Contender]


def builders(load: Workload, prepared: Prepared, stage: str, plan: Plan) -> dict[str, Builder]:
    """Return what makes each contender anew: with the same weights, before the first batch."""

    def build_stock() -> Contender:
        module = initial_module(load, prepared, stage, plan.recipe, plan.seed)
        weights = ours.weights_for_stock(module)
        return stock_contender(load, prepared, stage, plan.recipe, weights)

    def build_ours(name: str, precision: str) -> Contender:
        recipe = plan.recipe.with_overrides({"precision": precision})
        module = initial_module(load, prepared, stage, recipe, plan.seed)
        return our_contender(name, load, prepared, module, recipe)

    return {
        STOCK: build_stock,
        OURS: partial(build_ours, OURS, "fp32"),
        OURS_BF16: partial(build_ours, OURS_BF16, "bf16"),
    }


def initial_module(load: Workload, prepared: Prepared, stage: str, recipe: Recipe, seed: int) -> nn.Module:
    """Return our module of a stage on the device, with the weights that the seed gives."""
    seed_everything(seed, stage)
    return ours.stage_module(stage, load.width, recipe, prepared.features).to(prepared.clips.device)


def our_contender(name: str, load: Workload, prepared: Prepared, module: nn.Module, recipe: Recipe) -> Contender:
    """Return the trainer, in the recipe's precision."""
    training = ours.OurTraining(module, prepared.clips, recipe)
    positions = iter(load.batches)
    products = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    return Contender(name, products, lambda: training.step(next(positions))["loss"])


def stock_contender(
    load: Workload,
    prepared: Prepared,
    stage: str,
    recipe: Recipe,
    weights: dict[str, Tensor],
    host: HostClips | None = None,
) -> Contender:
    """Return the baseline with the given weights; ``host`` takes the place of the prepared arrays."""
    device = prepared.clips.device
    arguments: list[object] = [load.width, recipe]
    if stage == "inf":
        teacher = stock.Encoder(load.width, recipe).to(device)
        teacher.load_state_dict(prepared.teacher.state_dict())
        arguments.append(teacher)
    module = stock.STAGES[stage](*arguments).to(device)
    module.load_state_dict(weights)
    training = stock.StockTraining(module, recipe)
    loader = batches_in_order(host or prepared.host, load.rows.tolist(), device)
    batches = cast(Iterator[HostBatch], iter(loader))
    return Contender(STOCK, torch.float32, lambda: training.step(next(batches))["loss"])
