"""The features of clips, with their names and labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Embeddings:
    """Features of N clips.

    Attributes:
        features: (N, C) float32.
        names: name of each clip.
        labels: (N) int64 class index, -1 unknown.
        class_names: name of each class, in label order; empty where nothing is labelled.
        lengths: (N) int64, frames of each clip as the encoder saw it.
    """

    features: npt.NDArray[np.float32]
    names: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    lengths: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of clips N."""
        return len(self.names)

    @property
    def classes(self) -> list[str | None]:
        """Name of each clip's class; None where its label is unknown."""
        return [self.class_names[label] if label >= 0 else None for label in self.labels.tolist()]
