"""What an exported file says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from crrl_fast.data.fitting import all_steps
from crrl_fast.data.preprocess import describe_steps
from crrl_fast.export.parts import parts_of
from crrl_fast.models import ClipEncoder
from crrl_fast.run import RunFolder
from crrl_fast.versions import software_versions

_INPUTS = {
    "frames": "(B, T, D) float32: a frame is bodies x joints x (x, y, z), preprocessed as `preprocessing` says; what "
    "lies after a clip's valid frames never matters",
    "lengths": "(B) int64: valid frames of each clip, taken as 0 where less and as T where more",
}
_FEATURE = "(B, C) float32: mean over the valid frames of the last layer's outputs, forward then reverse; 0 of 0 frames"


def describe(run: RunFolder, name: str, encoder: ClipEncoder) -> dict[str, Any]:
    """Return the metadata of an encoder in JSON form.

    Args:
        run: where it comes from.
        name: what it is called there.
        encoder: itself.
    """
    config = run.config
    parts = parts_of(name, encoder)
    gru = next(iter(parts.values())).gru  # all parts have the recipe's sizes
    return {
        "format_version": 1,
        "encoder": name,
        "parts": list(parts),
        "input_size": gru.input_size,
        "hidden_size": gru.hidden_size,
        "layers": gru.num_layers,
        "bidirectional": gru.bidirectional,
        "feature_size": encoder.feature_size,
        "inputs": _INPUTS,
        "feature": _FEATURE,
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


def as_text(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return ``metadata`` for a format that holds text alone: each value as JSON."""
    return {key: json.dumps(value) for key, value in metadata.items()}
