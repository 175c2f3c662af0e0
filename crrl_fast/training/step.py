"""One optimiser step: the same code whether it runs eagerly or is captured in a CUDA graph."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from crrl_fast.config import Recipe
from crrl_fast.data.batches import Batch, ResidentClips
from crrl_fast.errors import CheckpointError, shown
from crrl_fast.training.distributed import ALONE, Ranks
from crrl_fast.training.optimizers import build_optimizer, state_tensors
from crrl_fast.views import Part


class TrainingStep:
    """Views, forward, backward, clipping, optimiser and the log of the losses, without waiting for the device.

    Whatever changes from step to step lies in tensors that stay where they are: the batch's positions, the learning
    rate, the losses of the epoch, and the state of module and optimiser. So ``run`` with the same shape can be captured
    once and replayed.

    Args:
        module: its forward maps a batch to a dictionary of scalar losses with ``loss`` among them; it is on the device
            of ``clips``. Where it has an attribute ``views``, that is what the batch's views are drawn from.
        clips: the training clips.
        recipe: batch size, optimiser, clipping and precision.
        ranks: the processes that take each step together; all name the same clips, and each computes its part.
        skips: whether a step whose loss or gradient is not finite leaves weights, optimiser and queue as they were.
    """

    def __init__(
        self, module: nn.Module, clips: ResidentClips, recipe: Recipe, ranks: Ranks = ALONE, *, skips: bool = False
    ) -> None:
        self._module = module
        self._ranks = ranks
        self._forward = ranks.parallel(module)
        self._clips = clips
        self._clip_grad_norm = recipe.clip_grad_norm
        self._skips = skips
        saved = {name for name, _ in module.named_parameters()}
        # What a forward in training mode changes, the queue; a key network's step is one from finite weights to others.
        self._written = [value for name, value in module.state_dict().items() if name not in saved] if skips else []
        self._kept = [value.clone() for value in self._written]
        self._views: Part | None = getattr(module, "views", None)
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._position = torch.zeros(min(recipe.batch_size, len(clips)), dtype=torch.int64, device=clips.device)
        # On the CPU it loses no digits.
        dtype = torch.float64 if clips.device.type == "cpu" else torch.float32
        self._lr = torch.tensor(recipe.lr, dtype=dtype, device=clips.device)
        self._optimizer = build_optimizer(self._parameters, recipe, self._lr)
        self._autocast = torch.autocast(clips.device.type, torch.bfloat16, enabled=recipe.precision == "bf16")
        self._steps = recipe.steps_per_epoch(len(clips))
        self._row = torch.zeros(1, dtype=torch.int64, device=clips.device)
        self._names: tuple[str, ...] = ()
        self._losses = torch.zeros(self._steps, 0, dtype=torch.float64, device=clips.device)

    @property
    def is_shared(self) -> bool:
        """Whether several processes take the steps together."""
        return not self._ranks.is_alone

    def begin_epoch(self, lr: float, done: int = 0) -> None:
        """Set the learning rate, and forget the losses but those of the first ``done`` steps."""
        self._module.train()
        self.set_lr(lr)
        self._row.fill_(done)

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the steps that follow; the device is not waited for."""
        self._lr.fill_(lr)

    def __call__(self, position: Tensor, frames: int) -> None:
        """Take a step on the clips at ``position`` ((B) int64 on their device), padded to ``frames``."""
        self.load(position)
        self.run(len(position), frames)

    def load(self, position: Tensor) -> None:
        """Name the clips of the next step."""
        self._position[: len(position)].copy_(position)

    def run(self, size: int, frames: int) -> None:
        """Take a step on the first ``size`` clips that were loaded, padded to ``frames``.

        There must be no more steps between two calls of ``begin_epoch`` than it takes to see every clip.
        """
        self._optimizer.zero_grad()  # first, so that gradients and activations share memory
        for kept, value in zip(self._kept, self._written, strict=True):
            kept.copy_(value)
        shard = self._ranks.shard(size)
        batch = self._batch(self._position[shard.start : shard.stop], frames)._replace(counts=shard.counts)
        with self._autocast:
            losses = self._forward(batch)
        losses = self._ranks.weighted(losses, shard)
        self._ranks.backward(losses["loss"])
        if self._clip_grad_norm > 0:
            norm = nn.utils.clip_grad_norm_(self._parameters, self._clip_grad_norm)
        else:
            gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
        logged = self._ranks.sum_(torch.stack([value.detach() for value in losses.values()]).double())
        at_loss = list(losses).index("loss")
        is_finite = logged[at_loss].isfinite() & norm.isfinite()  # of the whole batch, so that all ranks agree
        if self._skips:  # read on the device, as by torch's GradScaler
            self._optimizer.found_inf = is_finite.logical_not().float()  # type: ignore[attr-defined]
        self._optimizer.step()
        for kept, value in zip(self._kept, self._written, strict=True):
            value.copy_(torch.where(is_finite, value, kept))
        logged[at_loss].masked_fill_(is_finite.logical_not(), torch.nan)
        self._log(tuple(losses), logged)

    def _batch(self, position: Tensor, frames: int) -> Batch:
        if self._views is None:
            return self._clips.batch(position, frames)
        return self._clips.two_views(position, self._views, frames)

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return the optimiser's tensors by the names they have in a stage's state; those that are in use."""
        return state_tensors(self._optimizer, self._module)

    def load_losses(self, losses: Mapping[str, Tensor]) -> None:
        """Take over the losses of an epoch's first steps, each (steps) float64."""
        self._names = tuple(losses)
        self._losses = self._losses.new_zeros(self._steps, len(losses))
        if losses:
            rows = torch.stack(tuple(losses.values()), dim=1)
            self._losses[: len(rows)].copy_(rows)

    def losses(self) -> dict[str, Tensor]:
        """Return each part of the loss, (steps of the epoch) float64 on the host; this waits for the device.

        Where a gradient was not finite, the part ``loss`` is NaN.
        """
        rows = self._losses.cpu()
        return dict(zip(self._names, rows.T, strict=True))

    def latest_losses(self) -> dict[str, Tensor]:
        """Return each part of the last step's loss, a float64 scalar on the device; nothing is waited for."""
        row = self._losses.index_select(0, self._row - 1)[0]
        return dict(zip(self._names, row, strict=True))

    def _log(self, names: tuple[str, ...], row: Tensor) -> None:
        if not self._names:
            self._names = names
            self._losses = self._losses.new_zeros(self._steps, len(names))
        elif names != self._names:
            raise CheckpointError(f"its checkpoint has losses {shown(self._names)}, where the stage has {names}")
        self._losses.index_copy_(0, self._row, row[None])
        self._row += 1
