"""Stage ``inf``: the Information Fuser, which distils the contrastive encoder into a reconstructing one."""

from __future__ import annotations

from torch import Tensor

from crrl_fast.config import Recipe
from crrl_fast.data.batches import Batch
from crrl_fast.models import mlp_head
from crrl_fast.training.stages.ser import SequenceReconstructor, reconstruction


class InformationFuser(SequenceReconstructor):
    """A Sequence Reconstructor trained from scratch whose clip feature also predicts a frozen teacher's.

    Args:
        input_size: numbers D a frame.
        recipe: sizes and ``distill_weight``.
        teacher_features: (N, C), the teacher's clip feature of every training clip in eval mode; the recipe does not
            augment, so they are constants. Not part of the module's state.
    """

    teacher_features: Tensor

    def __init__(self, input_size: int, recipe: Recipe, teacher_features: Tensor) -> None:
        super().__init__(input_size, recipe)
        self.weight = recipe.distill_weight
        self.head = mlp_head(self.encoder.feature_size)
        self.register_buffer("teacher_features", teacher_features, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss`` = that of ``reconstruction`` + weight * ``distill``, and its parts; scalars.

        ``distill`` is the mean over clips of the squared distance between MLP(student feature) and teacher feature.
        """
        encoding = self.encoder(batch.coords, batch.lengths)
        losses = reconstruction(self.decoder, encoding, batch, self.recipe)
        difference = self.head(encoding.feature) - self.teacher_features[batch.position]
        distill = difference.square().sum(dim=1).mean()
        return {**losses, "loss": losses["loss"] + self.weight * distill, "distill": distill}
