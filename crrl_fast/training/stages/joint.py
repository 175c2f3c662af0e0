"""Stage ``joint``: reconstruction and contrast train one encoder together."""

from __future__ import annotations

from torch import Tensor

from crrl_fast.config import Recipe
from crrl_fast.data.batches import Batch
from crrl_fast.models import Encoding
from crrl_fast.training.stages.cml import ContrastiveMotionLearner
from crrl_fast.training.stages.ser import build_decoder, reconstruction
from crrl_fast.training.streams import side_by_side


class JointLearner(ContrastiveMotionLearner):
    """A Contrastive Motion Learner whose query encoder also feeds the decoder of a Sequence Reconstructor.

    Args:
        input_size: numbers D a frame.
        recipe: sizes, queue, temperature, momentum, ``contrast_weight`` and ``reconstruction_weight``.
    """

    def __init__(self, input_size: int, recipe: Recipe) -> None:
        super().__init__(input_size, recipe)
        self.decoder = build_decoder(input_size, self.encoder.feature_size, recipe)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss``, the weighted sum of ``contrast`` and the reconstruction's, its parts, and ``accuracy``.

        The clips are encoded once for both parts. Key network and queue are updated as in stage ``cml``.
        """

        def reconstruct_and_query() -> tuple[dict[str, Tensor], Tensor]:
            encoding = self.encode(batch)
            query = self.head(encoding.feature)
            of_coords = Encoding(*(part[: len(batch.coords)] for part in encoding))
            return reconstruction(self.decoder, of_coords, batch, self.recipe), query

        (losses, query), key = side_by_side(batch.coords.device, reconstruct_and_query, lambda: self.keys(batch))
        contrast, recipe = self.contrast(query, key, batch), self.recipe
        return {
            **losses,
            "loss": recipe.reconstruction_weight * losses["loss"] + recipe.contrast_weight * contrast["loss"],
            "contrast": contrast["loss"],
            "accuracy": contrast["accuracy"],
        }
