"""The clips of a run's split with the features that its encoder gives them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from crrl_fast.data.batches import resident_split
from crrl_fast.data.store import Store
from crrl_fast.evaluation.features import extract_features, load_encoder
from crrl_fast.report.collect import Run

Indices = npt.NDArray[np.int64]
Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """Training or test clips.

    Attributes:
        clips: (N) their places in the store.
        features: (N, C) clip features of length 1, so that a product of two is their cosine.
    """

    clips: Indices
    features: Features


@dataclass(frozen=True)
class Gallery:
    """What an encoder makes of a data set.

    Attributes:
        store: the store as it lies on disk, whose poses are drawn whatever stream the encoder saw.
        train: where neighbours are looked for.
        shown: the clips that are mapped and that neighbours are looked for: the test part, or the training part of a
            split that has none.
    """

    store: Store
    train: Part
    shown: Part

    @property
    def shows_training(self) -> bool:
        """Whether the shown clips are the training clips themselves."""
        return self.shown is self.train

    def labels(self, clips: Indices) -> Indices:
        """Return the class of each of ``clips``, -1 unknown."""
        return np.asarray(self.store.labels.numpy()[clips])


def encode_split(run: Run, store: Store, device: torch.device) -> Gallery:
    """Extract the features of a run's encoder on its own split.

    Raises:
        ConfigError: the encoder has no usable checkpoint, or the store has no such split.
    """
    parts = resident_split(store.processed(run.config.recipe.preprocessing()), run.config.split, device)
    encoder = load_encoder(run.folder, run.encoder, parts[0])
    encoded = []
    for clips, index in zip(parts, store.split(run.config.split), strict=True):
        if len(index):
            features = F.normalize(extract_features(encoder, clips).float(), dim=1)
            encoded.append(Part(index.numpy(), features.cpu().numpy()))
    return Gallery(store, train=encoded[0], shown=encoded[-1])
