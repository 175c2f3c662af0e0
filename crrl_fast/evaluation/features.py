"""Clip features of a frozen encoder, extracted once and then probed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.errors import ConfigError
from crrl_fast.models import ClipEncoder, FeatureEncoder
from crrl_fast.run import RANDOM_ENCODER, RunFolder
from crrl_fast.views import PRESETS, Part

# Inference needs no gradients, so batches may be larger than in training; beyond this there is nothing to gain.
BATCH_SIZE = 256
# Views that a covariance is estimated from: several for each number of a feature, also where there are few clips.
_VIEWS = 4096


@contextmanager
def _frozen(encoder: ClipEncoder) -> Iterator[None]:
    """Put the encoder into eval mode, without gradients; its mode is restored."""
    training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        encoder.train(training)


def extract_features(encoder: ClipEncoder, clips: ResidentClips, batch_size: int = BATCH_SIZE) -> Tensor:
    """Return the clip features (N, C) of ``clips`` in order, with the encoder in eval mode; its mode is restored."""
    if not len(clips):
        return torch.zeros(0, encoder.feature_size, device=clips.device)
    positions, features = [], []
    with _frozen(encoder):
        for position, frames in clips.by_length(batch_size):
            batch = clips.batch(position, frames)
            positions.append(position)
            features.append(encoder(batch.coords, batch.lengths).feature)
    by_length = torch.cat(features)
    return torch.empty_like(by_length).index_copy_(0, torch.cat(positions), by_length)


def fit_whitening(encoder: ClipEncoder, clips: ResidentClips, recipe: Recipe) -> None:
    """Fit the whitening of an encoder that has one, and that is not yet fitted, to ``clips`` as ``recipe`` asks for.

    The same encoder and clips give the same whitening, as the views are drawn by a generator of their own.
    """
    if isinstance(encoder, FeatureEncoder) and encoder.whitening and len(clips):
        views = recipe.whitening_views
        within = None if views == "none" else covariance_of_views(encoder, clips, PRESETS[views])
        encoder.fit_whitening(extract_features(encoder, clips), recipe.whitening, within)


def covariance_of_views(encoder: FeatureEncoder, clips: ResidentClips, preset: Part) -> Tensor:
    """Return the covariance (streams, C / streams, C / streams) float64 of features of views of the same clip.

    Args:
        encoder: whose whitening is not fitted yet, with features of C numbers.
        clips: of each as many random views are drawn as make ``_VIEWS`` in all, at least two.
        preset: what they are drawn from.

    Raises:
        DataError: the layout of the clips lacks a joint that the preset names.
    """
    streams, each = encoder.streams, max(2, -(-_VIEWS // len(clips)))
    size = encoder.feature_size // streams
    scatter = torch.zeros(streams, size, size, dtype=torch.float64, device=clips.device)
    generator = torch.Generator().manual_seed(0)
    with _frozen(encoder):
        for position, frames in clips.by_length(max(1, BATCH_SIZE // each)):
            batch = clips.view(position.repeat(each), preset, frames, generator)
            views = encoder(batch.coords, batch.lengths).feature.double().view(each, -1, streams, size)
            apart = (views - views.mean(dim=0)).flatten(0, 1).transpose(0, 1)
            scatter += apart.mT @ apart
    return scatter / (len(clips) * (each - 1))


def load_encoder(run: RunFolder, name: str, train: ResidentClips) -> ClipEncoder:
    """Return an encoder of a run as pretraining left it, on the device of ``train``; every call makes a new one.

    A random one, to compare with, is whitened by ``train``, as one that was pretrained is by the clips it learnt from.

    Raises:
        ConfigError: it has no usable checkpoint.
    """
    encoder = run.load_encoder(name).to(train.device)
    if name == RANDOM_ENCODER:
        fit_whitening(encoder, train, run.config.recipe)
    return encoder


@dataclass(frozen=True)
class FeatureSet:
    """Features and labels of the two parts of a split, labelled clips only.

    Attributes:
        train: (N, C) features.
        train_labels: (N) int64.
        test: (M, C) features.
        test_labels: (M) int64.
        num_classes: classes of the data set.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    num_classes: int

    @classmethod
    def extract(cls, encoder: ClipEncoder, train: ResidentClips, test: ResidentClips, num_classes: int) -> FeatureSet:
        """Extract the features of both parts and keep the labelled clips.

        Raises:
            ConfigError: a part has no labelled clip.
        """
        for part, clips in (("training", train), ("test", test)):
            if not bool((clips.labels >= 0).any()):
                raise ConfigError(f"the {part} part of the split has no labelled clips, and evaluation needs labels")
        known_train, known_test = train.labels >= 0, test.labels >= 0
        return cls(
            train=extract_features(encoder, train)[known_train],
            train_labels=train.labels[known_train],
            test=extract_features(encoder, test)[known_test],
            test_labels=test.labels[known_test],
            num_classes=num_classes,
        )
