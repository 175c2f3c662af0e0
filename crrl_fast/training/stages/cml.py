"""Stage ``cml``: the Contrastive Motion Learner."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crrl_fast.config import Recipe
from crrl_fast.data.batches import Batch
from crrl_fast.models import MomentumQueue, MotionEncoder, frozen_copy, mlp_head, momentum_update
from crrl_fast.ops import queue_info_nce
from crrl_fast.training.streams import side_by_side


class ContrastiveMotionLearner(nn.Module):
    """MoCo between a clip's coordinates (query) and its velocity (key).

    Args:
        input_size: numbers D a frame.
        recipe: sizes, queue, temperature and momentum.
    """

    def __init__(self, input_size: int, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.encoder = MotionEncoder(input_size, recipe.hidden_size, recipe.layers, recipe.dropout)
        self.head = mlp_head(self.encoder.feature_size)
        self.key_encoder = frozen_copy(self.encoder)
        self.key_head = (
            frozen_copy(self.head)
            if recipe.key_mlp_momentum
            else mlp_head(self.encoder.feature_size).requires_grad_(False)
        )
        self.queue = MomentumQueue(recipe.queue_size, self.encoder.feature_size)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss``, and ``accuracy``: how often a query's own key beats the queue.

        In training mode the key network takes its momentum step first, and the batch's keys enter the queue last.
        """
        query, key = side_by_side(batch.coords.device, lambda: self._queries(batch), lambda: self.keys(batch))
        return self.contrast(query, key, batch)

    def contrast(self, query: Tensor, key: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch's projected queries and keys, both (B, C).

        In training mode the keys enter the queue, with those of the batch's parts on other ranks.
        """
        loss, accuracy = queue_info_nce(
            query,
            key,
            self.queue.keys,
            self.recipe.temperature,
            normalize=True,
            return_accuracy=True,
            filled=self.queue.filled,
        )
        if self.training:
            self.queue.enqueue(F.normalize(key, dim=1), batch.counts)
        return {"loss": loss, "accuracy": accuracy[0]}

    @torch.no_grad()
    def keys(self, batch: Batch) -> Tensor:
        """Return the projected keys (B, C) of the velocity; in training mode the key network takes its step first."""
        if self.training:
            momentum_update(self.key_encoder, self.encoder, self.recipe.momentum)
            if self.recipe.key_mlp_momentum:
                momentum_update(self.key_head, self.head, self.recipe.momentum)
        key: Tensor = self.key_head(self.key_encoder(batch.velocity, batch.lengths).feature)
        return key

    def _queries(self, batch: Batch) -> Tensor:
        query: Tensor = self.head(self.encoder(batch.coords, batch.lengths).feature)
        return query
