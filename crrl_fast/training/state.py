"""Where a stage stands: what its training is continued from, bit by bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

MODULE_PREFIX = "module."
LOSS_PREFIX = "loss."
_ORDER = "random.order"
_HOST = "random.host"
_GPU = "random.gpu"


@dataclass(frozen=True)
class StageState:
    """A stage after some step.

    Attributes:
        epoch: the epoch under way, from 1; one more than there are where all are done.
        step: steps of it that were taken.
        seconds: that they took.
        lr: the learning rate of the next step.
        losses: names of the parts of the loss, in the order in which records have them; none before the first step.
        tensors: by name: ``module.*``, the module's parameters and buffers, hence also the momentum pair and the queue
            with its cursor; ``momentum.*`` of SGD, or ``exp_avg.*``, ``exp_avg_sq.*`` and ``step.*`` of AdamW, the
            optimiser's; ``loss.*``, (step) float64, the losses of these steps; ``random.*``, uint8, states of the
            generators: of the order as the epoch began, of the host and of the GPU as the step ended.
    """

    epoch: int
    step: int
    seconds: float
    lr: float
    losses: tuple[str, ...]
    tensors: Mapping[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with ``prefix``, by the rest of their names."""
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}


def random_states(order: Tensor, device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's generators, and of the order's, as a stage's state holds them."""
    states = {_ORDER: order, _HOST: torch.get_rng_state()}
    return states | {_GPU: torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def load_random_states(tensors: Mapping[str, Tensor], order: torch.Generator, device: torch.device) -> None:
    """Set torch's generators, and that of the order; the GPU's is left alone where none was in use.

    Raises:
        KeyError: a state is missing.
        RuntimeError: it is none.
    """
    order.set_state(tensors[_ORDER])
    torch.set_rng_state(tensors[_HOST])
    if device.type == "cuda" and _GPU in tensors:
        torch.cuda.set_rng_state(tensors[_GPU], device)
