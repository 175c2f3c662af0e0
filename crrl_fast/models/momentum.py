"""The momentum pair: a key network that follows a query network as its moving average (He et al., MoCo, CVPR 2020)."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def frozen_copy(module: ModuleT) -> ModuleT:
    """Return a copy of ``module`` with the same weights, which no gradient reaches."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def momentum_update(key: nn.Module, query: nn.Module, momentum: float) -> None:
    """Set each parameter of ``key`` to ``momentum * key + (1 - momentum) * query``, in place."""
    torch._foreach_lerp_(list(key.parameters()), list(query.parameters()), 1 - momentum)
