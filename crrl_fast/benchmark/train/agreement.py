"""Whether ours trains as stock does: the same losses, step by step, from the same weights and batches.

Two float32 programs round differently, and SGD lets any difference grow, over 200 steps by three or four orders of
magnitude; where a loss is steep it jumps. No constant tells such growth from a mistake. So stock runs twice, the second
time from coordinates and weights that differ in their last bit: what becomes of that is what becomes of rounding, on
the same path and at the same step. Every step of ours rounds anew, besides. Ours may differ ``FACTOR`` times as much.

A mistake does not hide in it: the tolerance starts at a few units in the last place, and a learning rate that is off by
one percent shows in the second step.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from crrl_fast.benchmark.train import ours
from crrl_fast.benchmark.train.contenders import initial_module, our_contender, stock_contender
from crrl_fast.benchmark.train.host import HostClips
from crrl_fast.benchmark.train.plan import Plan
from crrl_fast.benchmark.train.preparation import Prepared
from crrl_fast.benchmark.train.record import OURS, CurveRecord
from crrl_fast.benchmark.train.workload import Workload

EPSILON = 2.0**-23
"""From 1 to the next float32."""

FACTOR = 16
"""A step rounds in more places than its inputs, and one run of either is one draw: up to 4 was seen."""

HOW = (
    f"tolerance: {FACTOR} times what becomes, by the same step, of last-bit differences in stock's own coordinates and "
    "initial weights, and at least as much of a last bit for every step; dropout is 0 in both, since their masks come "
    "from different generators"
)


def compare_curves(load: Workload, prepared: Prepared, stage: str, plan: Plan) -> CurveRecord:
    """Train through all batches of the workload, in float32 and without dropout, once with ours and twice with stock.

    Raises:
        TrainingError: a loss is not finite.
    """
    recipe = plan.recipe.with_overrides({"dropout": 0.0, "precision": "fp32"})
    module = initial_module(load, prepared, stage, recipe, plan.seed)
    weights = ours.weights_for_stock(module)
    generator = torch.Generator().manual_seed(plan.seed)
    nudged_store = replace(load.store, frames=nudged(load.store.frames, generator))
    nudged_host = HostClips(nudged_store, load.index[load.drawn])
    nudged_weights = {name: nudged(weight, generator) for name, weight in weights.items()}
    steps = len(load.batches)
    # TF32 would round ten thousand times as much as float32 does.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        stock = stock_contender(load, prepared, stage, recipe, weights).run(steps)
        rounding = stock_contender(load, prepared, stage, recipe, nudged_weights, nudged_host).run(steps)
        found = our_contender(OURS, load, prepared, module, recipe).run(steps)
    return CurveRecord(stage, load.name, tuple(stock), tuple(found), tuple(rounding), tuple(tolerance(stock, rounding)))


def tolerance(stock: list[float], rounding: list[float]) -> list[float]:
    """Return what a curve may differ from ``stock``, relative to it, at each step."""
    grown = accumulate((abs(a - b) / abs(b) for a, b in zip(rounding, stock, strict=True)), max)
    return [FACTOR * max(difference, step * EPSILON) for step, difference in enumerate(grown, start=1)]


def nudged(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return ``x`` with the last bit of each number changed, up or down at random."""
    sign = torch.randint(0, 2, x.shape, generator=generator, dtype=torch.int8).mul_(2).sub_(1).to(x)
    return x + x * (sign * EPSILON)
