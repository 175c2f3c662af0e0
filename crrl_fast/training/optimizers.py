"""The optimisers, such that a step with them can be captured, and their state in checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from crrl_fast.config import Recipe

STATE_PREFIXES = {"momentum_buffer": "momentum.", "exp_avg": "exp_avg.", "exp_avg_sq": "exp_avg_sq.", "step": "step."}
"""What the names of the optimiser's tensors begin with in a stage's state, by torch's names of them."""


def build_optimizer(parameters: Sequence[nn.Parameter], recipe: Recipe, lr: Tensor) -> Optimizer:
    """Return the recipe's optimiser with its state made, so that it can be loaded; torch's first step would do as much.

    Args:
        parameters: to train, on the device of ``lr``.
        recipe: ``optimizer`` and its numbers.
        lr: the learning rate, a scalar that is read on the device at each step, so that a captured step sees it change.
            Of torch's implementations only the fused ones do so, on a GPU as a float32.
    """
    if recipe.optimizer == "adamw":
        adamw = AdamW(
            parameters,
            lr=lr,
            weight_decay=recipe.weight_decay,
            capturable=lr.device.type == "cuda",  # else torch refuses the capture
            fused=True,
        )
        # The first step of a shape is never captured, which torch would warn of.
        adamw._warned_capturable_if_run_uncaptured = True
        for parameter in parameters:
            adamw.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return adamw
    sgd = SGD(parameters, lr=lr, momentum=recipe.sgd_momentum, weight_decay=recipe.weight_decay, fused=True)
    if recipe.sgd_momentum > 0:
        for parameter in parameters:
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def state_tensors(optimizer: Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Return the optimiser's tensors for the parameters of ``module``, as they are named in checkpoints; those in use.

    These are ``momentum.PARAMETER`` of SGD with momentum, and ``exp_avg.``, ``exp_avg_sq.`` and ``step.`` of AdamW.
    """
    return {
        STATE_PREFIXES[kind] + name: tensor
        for name, parameter in module.named_parameters()
        if parameter in optimizer.state
        for kind, tensor in optimizer.state[parameter].items()
    }
