"""Stage ``cml``: the Contrastive Motion Learner."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crrl_fast.config import Recipe
from crrl_fast.data.batches import Batch
from crrl_fast.models import Encoding, MomentumQueue, MotionEncoder, frozen_copy, mlp_head, momentum_update
from crrl_fast.ops import queue_info_nce
from crrl_fast.training.streams import side_by_side
from crrl_fast.views import PRESETS, Part


class ContrastiveMotionLearner(nn.Module):
    """MoCo between a clip's coordinates (query) and its velocity (key), and with ``symmetric`` also the reverse.

    Args:
        input_size: numbers D a frame.
        recipe: sizes, queue, temperature, momentum, and what is contrasted with what.

    Attributes:
        views: what a batch's two views of each clip are drawn from; None where it is the clips as they are.
    """

    def __init__(self, input_size: int, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.views: Part | None = None if recipe.views == "none" else PRESETS[recipe.views]
        self.encoder = MotionEncoder(input_size, recipe.hidden_size, recipe.layers, recipe.dropout)
        size, projected = self.encoder.feature_size, recipe.projection_size or self.encoder.feature_size
        self.head = mlp_head(size, projected)
        self.key_encoder = frozen_copy(self.encoder)
        self.key_head = (
            frozen_copy(self.head) if recipe.key_mlp_momentum else mlp_head(size, projected).requires_grad_(False)
        )
        self.queue = MomentumQueue(recipe.queue_size, projected, start=recipe.queue_start)  # type: ignore[arg-type]
        if recipe.symmetric:
            self.coords_queue = MomentumQueue(recipe.queue_size, projected, start=recipe.queue_start)  # type: ignore[arg-type]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss``, and ``accuracy``: how often a query's own key beats the queue.

        In training mode the key network takes its momentum step first, and the batch's keys enter the queue last.
        """
        query, key = side_by_side(
            batch.coords.device, lambda: self.head(self.encode(batch).feature), lambda: self.keys(batch)
        )
        return self.contrast(query, key, batch)

    def encode(self, batch: Batch) -> Encoding:
        """Return the encoding of what queries are made of: coordinates (B), and with ``symmetric`` velocity after them.

        Both run as one batch, whose recurrent products are larger.
        """
        if not self.recipe.symmetric:
            return self.encoder(batch.coords, batch.lengths)  # type: ignore[no-any-return]
        both = torch.cat([batch.coords, self._velocity(batch)])
        return self.encoder(both, batch.lengths.repeat(2))  # type: ignore[no-any-return]

    @torch.no_grad()
    def keys(self, batch: Batch) -> Tensor:
        """Return the projected keys (B, C) of the velocity of the batch's key views.

        With ``symmetric`` those of their coordinates follow: (2B, C). In training mode the key network takes its step
        first.
        """
        if self.training:
            momentum_update(self.key_encoder, self.encoder, self.recipe.momentum)
            if self.recipe.key_mlp_momentum:
                momentum_update(self.key_head, self.head, self.recipe.momentum)
        view = batch.key or batch
        frames, lengths = self._velocity(view), view.lengths
        if self.recipe.symmetric:
            frames, lengths = torch.cat([frames, view.coords]), lengths.repeat(2)
        key: Tensor = self.key_head(self.key_encoder(frames, lengths).feature)
        return key

    def contrast(self, query: Tensor, key: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch's projected queries and keys, in the order of ``encode`` and ``keys``.

        ``loss`` is that of coordinates against velocity; with ``symmetric`` plus that of velocity against coordinates,
        and with ``within_stream`` plus that times those of each against itself. In training mode the keys enter the
        queues, with those of the batch's parts on other ranks.
        """
        if not self.recipe.symmetric:
            loss, accuracy = self._info_nce(query, key, self.queue)
            self._enqueue(self.queue, key, batch)
            return {"loss": loss, "accuracy": accuracy}
        coords, velocity = query.chunk(2)
        velocity_key, coords_key = key.chunk(2)
        loss, accuracy = self._info_nce(coords, velocity_key, self.queue)
        loss = loss + self._info_nce(velocity, coords_key, self.coords_queue)[0]
        if self.recipe.within_stream > 0:
            within = self._info_nce(coords, coords_key, self.coords_queue)[0]
            within = within + self._info_nce(velocity, velocity_key, self.queue)[0]
            loss = loss + self.recipe.within_stream * within
        self._enqueue(self.queue, velocity_key, batch)
        self._enqueue(self.coords_queue, coords_key, batch)
        return {"loss": loss, "accuracy": accuracy}

    def _info_nce(self, query: Tensor, key: Tensor, queue: MomentumQueue) -> tuple[Tensor, Tensor]:
        """Return the loss, and how often a query's own key is nearer than all of the queue."""
        loss, accuracy = queue_info_nce(
            query,
            key,
            queue.keys,
            self.recipe.temperature,
            normalize=True,
            return_accuracy=True,
            filled=queue.filled,
        )
        return loss, accuracy[0]

    def _enqueue(self, queue: MomentumQueue, key: Tensor, batch: Batch) -> None:
        if self.training:
            queue.enqueue(F.normalize(key, dim=1), batch.counts)

    def _velocity(self, batch: Batch) -> Tensor:
        scale = self.recipe.velocity_scale
        return batch.velocity if scale == 1 else batch.velocity * scale
