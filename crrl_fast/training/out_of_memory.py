"""What is done where a step does not fit into memory: measuring which batch would."""

from __future__ import annotations

import copy
import gc

import torch
from torch import nn

from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.memory import is_out_of_memory
from crrl_fast.training.distributed import ALONE, Ranks
from crrl_fast.training.graphs import best_way_to_take
from crrl_fast.training.step import TrainingStep

_RESOLUTION = 4
"""The batch that is found is smaller than the largest by a quarter at most."""


def largest_batch_that_fits(
    module: nn.Module, clips: ResidentClips, recipe: Recipe, too_many: int, ranks: Ranks = ALONE
) -> int:
    """Return how many clips a batch may have, by taking steps; 0 where not even one fits.

    Measured, because an estimate would have to know what libraries and the allocator take: work spaces, fragments, and
    the pool of CUDA graphs, which a step needs besides what it needs without them. The steps are those of training, on
    the longest clips, with a copy of the module; module and generators stay as they are. The memory of what failed must
    have been let go.

    Args:
        module: that trains.
        clips: the training clips.
        recipe: of the training.
        too_many: clips of a batch that does not fit, of all ranks together.
        ranks: this rank measures its part of the batch, by itself.
    """
    recipe = recipe if ranks.is_alone else recipe.with_overrides({"cuda_graphs": False})
    low, high = 0, -(-too_many // ranks.size)
    while high - low > max(1, low // _RESOLUTION):
        middle = (low + high) // 2
        if _fits(module, clips, recipe, middle):
            low = middle
        else:
            high = middle
    return low * ranks.size


def _fits(module: nn.Module, clips: ResidentClips, recipe: Recipe, count: int) -> bool:
    device = clips.device
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            step = TrainingStep(copy.deepcopy(module), clips, recipe)
            take = best_way_to_take(step, clips, recipe)
            for _ in range(2):  # of a CUDA graph, the warm-up and the capture
                step.begin_epoch(recipe.lr)
                take(*clips.longest_first(count))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return False
    return True
