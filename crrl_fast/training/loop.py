"""The training loop of one stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.errors import CheckpointError, DeviceMemoryError, TrainingError
from crrl_fast.memory import device_memory, is_out_of_memory
from crrl_fast.training.distributed import ALONE, Ranks
from crrl_fast.training.graphs import best_way_to_take
from crrl_fast.training.optimizers import STATE_PREFIXES
from crrl_fast.training.out_of_memory import largest_batch_that_fits
from crrl_fast.training.schedule import Schedule
from crrl_fast.training.state import (
    LOSS_PREFIX,
    MODULE_PREFIX,
    StageState,
    load_random_states,
    random_states,
)
from crrl_fast.training.step import TrainingStep

_NAMES_SHOWN = 32


class StageLoop:
    """Trains a module, whose forward maps a batch to a dictionary of scalar losses with ``loss`` among them.

    Args:
        name: of the stage.
        module: on the device of ``clips``.
        clips: the training clips.
        recipe: epochs or steps, batch size, shuffling, optimiser, schedule, clipping and precision.
        generator: of the shuffling, in the same state on all ranks.
        ranks: the processes that train together.
        skips: steps of an epoch that may have a loss or a gradient that is not finite; they change nothing and are left
            out of the means. 0 stops at the first.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        clips: ResidentClips,
        recipe: Recipe,
        generator: torch.Generator,
        ranks: Ranks = ALONE,
        *,
        skips: int = 0,
    ) -> None:
        self.name = name
        self._module = module
        self._clips = clips
        self._recipe = recipe
        self._generator = generator
        self._skips = skips
        self._ranks = ranks
        self._batches: list[Tensor] = []
        self._step = TrainingStep(module, clips, recipe, ranks, skips=skips > 0)
        self._take = best_way_to_take(self._step, clips, recipe)
        self._schedule = Schedule(recipe, len(clips))
        self._epoch = 1
        self._done = 0
        self._order = generator.get_state()
        self._started = time.perf_counter()

    @property
    def epoch(self) -> int:
        """The epoch under way, from 1; one more than there are where all are done."""
        return self._epoch

    @property
    def has_finished(self) -> bool:
        """Whether all epochs are done."""
        return self._epoch > self._recipe.epochs_on(len(self._clips))

    def run(
        self,
        *,
        on_step: Callable[[int], None],
        on_epoch: Callable[[dict[str, Any]], None],
        on_skip: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Train to the last epoch, from wherever the stage stands.

        Args:
            on_step: called after each step has been given to the device, with its number of clips. Losses are read
                back once an epoch, so that the device is never waited for within one.
            on_epoch: called after each epoch with its record: stage, epoch (from 1), mean losses over clips, lr (of its
                last step), seconds and clips_per_second, and ``skipped`` where steps were. The stage then already
                stands at the next one.
            on_skip: called before that with a line for each step that was skipped.

        Raises:
            TrainingError: the loss or the gradient of more steps than may be skipped is not finite.
            DeviceMemoryError: a step does not fit into memory.
        """
        while not self.has_finished:
            on_epoch(self._run_epoch(on_step, on_skip))

    def state(self) -> StageState:
        """Return where the stage stands; its tensors are those in use. This waits for the device."""
        losses = {name: values[: self._done] for name, values in self._step.losses().items()} if self._done else {}
        return StageState(
            epoch=self._epoch,
            step=self._done,
            seconds=time.perf_counter() - self._started if self._done else 0.0,
            lr=self._schedule.lr(self._epoch, self._done),
            losses=tuple(losses),
            tensors={
                **_named(MODULE_PREFIX, self._module.state_dict()),
                **self._step.optimizer_state(),
                **_named(LOSS_PREFIX, losses),
                **random_states(self._order, self._clips.device),
            },
        )

    def check(self) -> None:
        """Refuse a stage that should not be gone on with; this waits for the device.

        Raises:
            TrainingError: a weight is not finite, or, in the epoch under way, the loss or the gradient of more steps
                than may be skipped.
        """
        if self._done == 0:  # the end of the epoch before was checked
            return
        bad = self._bad_steps()
        if len(bad) > self._skips:
            lr, clip = self._lr_in_words(bad[0]), self._recipe.clip_grad_norm
            raise TrainingError(
                f"{self.name}: the loss or its gradient is not finite in {self._describe(bad[0])}"
                + (f" and in {len(bad) - 1} later steps" if len(bad) > 1 else "")
                + f": look at these clips, lower lr (now {lr}) or clip_grad_norm (now {clip})"
                + ("" if self._skips else ", or leave such steps out with --on-nonfinite skip"),
                "--set lr=...",
            )
        wrong = [name for name, value in self._module.state_dict().items() if not bool(value.isfinite().all())]
        if wrong:
            raise TrainingError(
                f"{self.name}: {wrong[0]} is not finite after {self._describe(self._done - 1)}: lower lr (now "
                f"{self._lr_in_words(self._done - 1)})",
                "--set lr=...",
            )

    def load_state(self, state: StageState, *, restart_epoch: bool = False) -> None:
        """Go on from another loop's ``state``; tensors are copied into those in use. No step may have been taken yet.

        Args:
            state: of a stage of the same name on the same clips with the same recipe.
            restart_epoch: begin its epoch anew, as other clips or other batches demand.

        Raises:
            CheckpointError: its tensors do not fit the module.
        """
        own = self._step.optimizer_state()
        saved = {key for key in state.tensors if key.startswith(tuple(STATE_PREFIXES.values()))}
        try:
            if saved != own.keys():
                raise RuntimeError("its optimiser is another, or of other parameters")
            self._module.load_state_dict(state.part(MODULE_PREFIX))
            for name, tensor in own.items():
                tensor.copy_(state.tensors[name].view(tensor.shape))
            load_random_states(state.tensors, self._generator, self._clips.device)
            self._done = 0 if restart_epoch else state.step
            if self._done:
                losses = {name: state.tensors[LOSS_PREFIX + name] for name in state.losses}
                if not losses or any(values.shape != (self._done,) for values in losses.values()):
                    raise KeyError(f"it has not one loss for each of {self._done} steps")
                self._step.load_losses(losses)
        except (KeyError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"stage {self.name}: the checkpoint does not fit ({reason})") from error
        self._epoch = state.epoch
        self._order = self._generator.get_state()
        self._started = time.perf_counter() - (state.seconds if self._done else 0.0)

    def _run_epoch(self, on_step: Callable[[int], None], on_skip: Callable[[str], None]) -> dict[str, Any]:
        epoch, recipe, clips = self._epoch, self._recipe, self._clips
        if self._done == 0:
            self._started = time.perf_counter()
        self._step.begin_epoch(self._schedule.lr(epoch, self._done), self._done)
        already, self._batches = self._done, []
        for position, frames in clips.shuffled(recipe.batch_size, self._generator, recipe.length_buckets):
            self._batches.append(position)
            if len(self._batches) > already:
                self._step.set_lr(self._schedule.lr(epoch, self._done))
                self._take_step(position, frames)
                self._done += 1
                on_step(len(position))
        self.check()
        skipped = self._bad_steps()
        for bad in skipped:
            on_skip(f"{self.name}: the loss or its gradient is not finite in {self._describe(bad)}: skipped")
        sizes = torch.tensor([len(position) for position in self._batches], dtype=torch.float64)
        sizes[skipped] = 0
        weights = sizes / sizes.sum()
        losses = self._step.losses()
        for values in losses.values():
            values[skipped] = 0  # no weight makes up for a NaN
        means = {part: float(weights @ values) for part, values in losses.items()}
        seconds = time.perf_counter() - self._started
        self._epoch, self._done, self._order = epoch + 1, 0, self._generator.get_state()
        return {
            "stage": self.name,
            "epoch": epoch,
            **means,
            "lr": self._schedule.last_lr(epoch),
            "seconds": seconds,
            "clips_per_second": len(clips) / seconds,
            **({"skipped": len(skipped)} if skipped else {}),
        }

    def _take_step(self, position: Tensor, frames: int) -> None:
        """Take a step, or say which batch would have fitted."""
        try:
            self._take(position, frames)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            memory = device_memory(self._clips.device)
        else:
            return
        # Only here, behind the except clause, is nothing of the failed step held by its traceback.
        self._take = self._step
        fits = largest_batch_that_fits(self._module, self._clips, self._recipe, len(position), self._ranks)
        would = f"batch_size={fits} was measured to fit" if fits else "not even one clip would fit: lower max_frames"
        raise DeviceMemoryError(
            f"{self.name}, epoch {self._epoch}, step {self._done + 1}: out of memory: a batch of {len(position)} "
            f"clips of {frames} frames does not fit on {memory}; {would}",
            f"--set batch_size={fits}" if fits else "",
        )

    def _bad_steps(self) -> list[int]:
        """Return which steps of the epoch under way, from 0, have a loss or a gradient that is not finite."""
        losses = self._step.losses()["loss"][: self._done]
        return [int(step) for step in (~losses.isfinite()).nonzero()]

    def _lr_in_words(self, step: int) -> str:
        """Return the learning rate of a step of the epoch under way, counted from 0."""
        return str(float(f"{self._schedule.lr(self._epoch, step):.6g}"))

    def _describe(self, step: int) -> str:
        names = self._clips.names(self._batches[step])
        shown = ", ".join(map(repr, names[:_NAMES_SHOWN]))
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        return f"epoch {self._epoch}, step {step + 1} (clips {shown}{more})"


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value.detach() for name, value in tensors.items()}
