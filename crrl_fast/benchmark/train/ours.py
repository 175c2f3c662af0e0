"""The trainer as the benchmark drives it: all that is known of ``crrl_fast.training`` here stands in this file."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.data.store import Store
from crrl_fast.evaluation.features import extract_features
from crrl_fast.models import MotionEncoder
from crrl_fast.training.distributed import ALONE, Ranks
from crrl_fast.training.graphs import best_way_to_take
from crrl_fast.training.stages import ContrastiveMotionLearner, InformationFuser, SequenceReconstructor
from crrl_fast.training.step import TrainingStep


def resident_frames(store: Store, device: torch.device) -> Tensor:
    """Return the frames of all clips (F, D) on the device."""
    return store.frames.to(device)


def resident_clips(store: Store, index: Tensor, frames: Tensor) -> ResidentClips:
    """Return the clips at ``index`` ((N) int64) of a store whose ``frames`` are on the device."""
    return ResidentClips(store, index, frames)


def draw_order(clips: ResidentClips, batch_size: int, generator: torch.Generator) -> object:
    """Draw the order of an epoch, without making its batches."""
    return clips.shuffled(batch_size, generator)


def teacher_encoder(width: int, recipe: Recipe, device: torch.device) -> MotionEncoder:
    """Return an untrained encoder of frames of ``width`` numbers: what a teacher holds changes no step's work."""
    return MotionEncoder(width, recipe.hidden_size, recipe.layers, recipe.dropout).to(device)


def cached_features(teacher: MotionEncoder, clips: ResidentClips) -> Tensor:
    """Return the teacher's clip features (N, C), as a run caches them before ``inf``."""
    return extract_features(teacher, clips)


def stage_module(stage: str, width: int, recipe: Recipe, features: Tensor | None) -> nn.Module:
    """Return a new module of a stage on the CPU; ``inf`` takes the teacher's features of all clips."""
    if stage == "cml":
        return ContrastiveMotionLearner(width, recipe)
    if stage == "ser":
        return SequenceReconstructor(width, recipe)
    assert features is not None, "stage inf needs its teacher's features"
    return InformationFuser(width, recipe, features)


class OurTraining:
    """The trainer's step over one stage.

    Args:
        module: from ``stage_module``, on the device of ``clips``.
        clips: the training clips.
        recipe: optimiser, clipping, precision and CUDA graphs.
        ranks: the processes that take each step together.
    """

    def __init__(self, module: nn.Module, clips: ResidentClips, recipe: Recipe, ranks: Ranks = ALONE) -> None:
        self._clips = clips
        self._lr = recipe.lr
        self._step = TrainingStep(module, clips, recipe, ranks)
        self._take = best_way_to_take(self._step, clips, recipe)
        self._steps_of_epoch = recipe.steps_per_epoch(len(clips))
        self._taken = 0

    def step(self, position: Tensor) -> dict[str, Tensor]:
        """Take a step with the clips at ``position`` ((B) int64 on the host); its losses stay on the device."""
        if self._taken % self._steps_of_epoch == 0:
            self._step.begin_epoch(self._lr)
        self._taken += 1
        self._take(*next(self._clips.in_order(position, len(position))))
        return self._step.latest_losses()


def weights_for_stock(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a stage under the names and in the shapes of the baseline's module."""
    state = {name: value.detach().clone() for name, value in module.state_dict().items()}
    for name in ("queue.cursor", "queue.filled"):
        state.pop(name, None)
    if "queue.keys" in state:
        state["queue"] = state.pop("queue.keys").T.contiguous()
    # The decoder's GRU is a module within ours and the whole of the baseline's.
    return {name.replace("decoder.gru.", "decoder."): value for name, value in state.items()}
