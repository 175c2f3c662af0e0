"""What an exported file says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from crrl_fast.data.fitting import all_steps
from crrl_fast.data.preprocess import describe_steps
from crrl_fast.export.parts import parts_of
from crrl_fast.models import ClipEncoder, FeatureEncoder
from crrl_fast.run import RunFolder
from crrl_fast.versions import software_versions

_INPUTS = {
    "frames": "(B, T, D) float32: a frame is bodies x joints x (x, y, z), preprocessed as `preprocessing` says; what "
    "lies after a clip's valid frames never matters",
    "lengths": "(B) int64: valid frames of each clip, taken as 0 where less and as T where more",
}
_MEAN = "mean over the valid frames of the last layer's outputs, forward then reverse; 0 of 0 frames"


def describe(run: RunFolder, name: str, encoder: ClipEncoder) -> dict[str, Any]:
    """Return the metadata of an encoder in JSON form.

    Args:
        run: where it comes from.
        name: what it is called there.
        encoder: itself.
    """
    config = run.config
    parts = parts_of(name, encoder)
    part = next(iter(parts.values()))  # all have the recipe's sizes and feature
    gru = part.encoder.gru
    is_plain = part.streams == 1 and not part.whitening
    return {
        "format_version": 1 if is_plain else 2,  # 1 was read as the mean of the GRU's outputs, whatever `feature` says
        "encoder": name,
        "parts": list(parts),
        "input_size": gru.input_size,
        "hidden_size": gru.hidden_size,
        "layers": gru.num_layers,
        "bidirectional": gru.bidirectional,
        "feature_size": encoder.feature_size,
        "inputs": _INPUTS,
        "feature": _feature_in_words(part),
        "streams": part.streams,
        "velocity_scale": part.velocity_scale,
        "parents": None if part.parents is None else part.parents.tolist(),
        "whitening": bool(part.whitening),
        **config.frames.record(),
        "joints": list(config.frames.layout.joints),
        "preprocessing": describe_steps(all_steps(config.frames, config.recipe.preprocessing())),
        "dataset": config.dataset,
        "data_sha256": config.data_sha256,
        "split": config.split,
        "stages": list(config.stages),
        "recipe_name": config.recipe_name,
        "recipe": asdict(config.recipe),
        "seed": config.seed,
        "versions": software_versions(),
        "versions_of_training": dict(config.versions),
    }


def _feature_in_words(part: FeatureEncoder) -> str:
    words = f"(B, C) float32: {_MEAN}"
    share = f"C / {part.streams}"
    if part.streams > 1:
        words += f"; {share} numbers of the frames themselves, and after them, by the same GRU,"
    if part.velocity_scale is not None:
        words += (
            f" {share} of their velocity x[t + 1] - x[t], 0 at a clip's last valid frame, times {part.velocity_scale:g}"
        )
    if part.parents is not None:
        words += f", and {share} of their bones x[:, :, d] - x[:, :, parents[d]]"
    if part.whitening:
        each = f", each stream by its own i from 0 to {part.streams - 1}," if part.streams > 1 else ", i = 0,"
        words += f"; then{each} minus whitening.i.mean, times whitening.i.matrix from the right, also of 0 frames"
    return words


def as_text(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return ``metadata`` for a format that holds text alone: each value as JSON."""
    return {key: json.dumps(value) for key, value in metadata.items()}
