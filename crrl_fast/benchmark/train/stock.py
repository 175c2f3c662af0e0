"""The release's algorithm in stock PyTorch, the baseline: packed ``nn.GRU``, a decoder call for each direction of time,
the teacher run in every step, MoCo as published, losses read back in every step.

It follows the authors' release (github.com/Picasso-Wang/CRRL, ``main_pretrain.py`` and ``moco_builder.py``) with the
deliberate differences that the trainer makes too: gradients are clipped, the teacher runs in eval mode, and the decoder
has no dropout. It shares no code with the trainer, only the recipe's numbers. Parameters have the trainer's names, so
that weights can be copied.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from crrl_fast.benchmark.train.host import HostBatch
from crrl_fast.config import Recipe
from crrl_fast.errors import ConfigError

Losses = dict[str, Tensor]


class Encoder(nn.Module):
    """Bidirectional GRU over packed clips."""

    def __init__(self, width: int, recipe: Recipe) -> None:
        super().__init__()
        dropout = recipe.dropout if recipe.layers > 1 else 0.0
        self.gru = nn.GRU(
            width, recipe.hidden_size, recipe.layers, batch_first=True, bidirectional=True, dropout=dropout
        )

    def forward(self, packed: PackedSequence) -> Tensor:
        """Return the outputs (B, T, 2 * hidden), zero in the padding."""
        self.gru.flatten_parameters()
        return pad_packed_sequence(self.gru(packed)[0], batch_first=True)[0]

    def feature(self, x: Tensor, frames: list[int]) -> Tensor:
        """Return the clip features (B, 2 * hidden) of ``x`` (B, T, D)."""
        return mean_over_frames(self(pack_padded_sequence(x, frames, batch_first=True)), frames)


def mean_over_frames(outputs: Tensor, frames: list[int]) -> Tensor:
    """Return the mean of (B, T, C) over each clip's valid frames, where the rest is zero."""
    length = torch.tensor(frames, dtype=outputs.dtype, device=outputs.device)[:, None]
    return (1 / length).mul(outputs.sum(dim=1))


def mlp(size: int) -> nn.Sequential:
    """Return the release's MLP."""
    return nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size))


class Reconstructor(nn.Module):
    """Stage ``ser``: one decoder, called for the clip and again for its reversal."""

    def __init__(self, width: int, recipe: Recipe) -> None:
        super().__init__()
        self.encoder = Encoder(width, recipe)
        self.decoder = nn.GRU(2 * recipe.hidden_size, width, recipe.layers, batch_first=True)

    def forward(self, batch: HostBatch) -> Losses:
        """Return the losses of a batch that lies on the device."""
        return self.reconstruction(batch)[0]

    def reconstruction(self, batch: HostBatch) -> tuple[Losses, Tensor]:
        """Return the losses and the encoder's outputs."""
        rows, last = list(range(len(batch.frames))), [count - 1 for count in batch.frames]
        outputs = self.encoder(pack_padded_sequence(batch.coords, batch.frames, batch_first=True))
        forward = self._squared_error(outputs[:, 0], batch.coords, batch.frames)
        reverse = self._squared_error(outputs[rows, last], batch.reverse, batch.frames)
        return {"loss": forward + reverse, "forward": forward, "reverse": reverse}, outputs

    def _squared_error(self, vector: Tensor, target: Tensor, frames: list[int]) -> Tensor:
        repeated = vector.repeat(max(frames), 1, 1).permute(1, 0, 2)
        self.decoder.flatten_parameters()
        packed, _ = self.decoder(pack_padded_sequence(repeated, frames, batch_first=True))
        decoded, _ = pad_packed_sequence(packed, batch_first=True)
        length = torch.tensor(frames, dtype=target.dtype, device=target.device)
        return ((decoded - target) ** 2).sum(dim=(1, 2)).mul(1 / length).sum() / len(frames)


class Distiller(Reconstructor):
    """Stage ``inf``: a Reconstructor whose feature also predicts that of a teacher, which runs in every step."""

    def __init__(self, width: int, recipe: Recipe, teacher: Encoder) -> None:
        super().__init__(width, recipe)
        self.weight = recipe.distill_weight
        self.head = mlp(2 * recipe.hidden_size)
        # In a list, so that it is no submodule: neither train() nor state_dict() shall reach it.
        self._teacher = [teacher.requires_grad_(False).eval()]

    def forward(self, batch: HostBatch) -> Losses:
        """Return the losses of a batch that lies on the device."""
        losses, outputs = self.reconstruction(batch)
        target = self._teacher[0].feature(batch.coords, batch.frames)
        student = self.head(mean_over_frames(outputs, batch.frames))
        distill = F.mse_loss(target, student, reduction="sum") / len(batch.frames)
        return {**losses, "loss": losses["loss"] + self.weight * distill, "distill": distill}


class Contrast(nn.Module):
    """Stage ``cml``: MoCo as published, with the velocity as the key's view."""

    queue: Tensor
    pointer: Tensor

    def __init__(self, width: int, recipe: Recipe) -> None:
        super().__init__()
        if recipe.queue_size % recipe.batch_size:
            raise ConfigError(
                f"the release's queue takes whole batches only: queue_size {recipe.queue_size} is no multiple of "
                f"batch_size {recipe.batch_size}"
            )
        if recipe.key_mlp_momentum:
            raise ConfigError("the release never updates its key MLP: set key_mlp_momentum=false")
        size = 2 * recipe.hidden_size
        self.recipe = recipe
        self.encoder, self.head = Encoder(width, recipe), mlp(size)
        self.key_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.key_head = mlp(size).requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(size, recipe.queue_size), dim=0))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.int64), persistent=False)

    def forward(self, batch: HostBatch) -> Losses:
        """Return InfoNCE of a batch that lies on the device, and enqueue its keys."""
        query = F.normalize(self.head(self.encoder.feature(batch.coords, batch.frames)), dim=1)
        with torch.no_grad():
            momentum = self.recipe.momentum
            for k, q in zip(self.key_encoder.parameters(), self.encoder.parameters(), strict=True):
                k.data = k.data * momentum + q.data * (1.0 - momentum)
            key = F.normalize(self.key_head(self.key_encoder.feature(batch.velocity, batch.frames)), dim=1)
        positive = torch.einsum("nc,nc->n", [query, key]).unsqueeze(-1)
        negative = torch.einsum("nc,ck->nk", [query, self.queue.clone().detach()])
        logits = torch.cat([positive, negative], dim=1)
        logits /= self.recipe.temperature
        target = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        self._enqueue(key)
        return {"loss": F.cross_entropy(logits, target)}

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        pointer = int(self.pointer)
        self.queue[:, pointer : pointer + len(keys)] = keys.T
        self.pointer[0] = (pointer + len(keys)) % self.recipe.queue_size


class StockTraining:
    """The release's loop body over one of the modules above.

    Args:
        module: maps a batch to its losses, ``loss`` among them.
        recipe: optimiser and clipping.

    Raises:
        ConfigError: the optimiser is another than the release's.
    """

    def __init__(self, module: nn.Module, recipe: Recipe) -> None:
        if recipe.optimizer != "sgd":
            raise ConfigError(f"the release trains with sgd: optimizer {recipe.optimizer} has no baseline")
        for name in _RELEASE:
            if getattr(recipe, name) != getattr(Recipe(), name):
                raise ConfigError(f"the release has no {name}: {getattr(recipe, name)} has no baseline")
        self.module = module.train()
        self._device = next(module.parameters()).device
        self._clip = recipe.clip_grad_norm
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(
            self._parameters, lr=recipe.lr, momentum=recipe.sgd_momentum, weight_decay=recipe.weight_decay
        )

    def step(self, batch: HostBatch) -> dict[str, float]:
        """Take a step with a batch from the host and read its losses back."""
        losses = self.module(batch._replace(**{name: getattr(batch, name).to(self._device) for name in _ARRAYS}))
        self.optimizer.zero_grad()
        losses["loss"].backward()
        if self._clip > 0:
            nn.utils.clip_grad_norm_(self._parameters, self._clip)
        self.optimizer.step()
        return {name: loss.item() for name, loss in losses.items()}


_RELEASE = (
    *("velocity_scale", "projection_size", "queue_start", "views", "symmetric"),
    *("decoder_size", "decoder_layers", "decode_from", "velocity_weight"),
)
_ARRAYS = ("coords", "reverse", "velocity", "velocity_reverse")

STAGES: dict[str, Callable[..., nn.Module]] = {"ser": Reconstructor, "cml": Contrast, "inf": Distiller}
"""By name; ``inf`` also takes its teacher."""
