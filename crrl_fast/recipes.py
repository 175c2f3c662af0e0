"""The named recipes."""

from __future__ import annotations

import dataclasses

from crrl_fast.config import Recipe
from crrl_fast.errors import ConfigError

# Chosen by trials on held-out subjects, with what each field is worth: see docs/recipes.md.
_FAST = Recipe(
    fusion="joint",
    # Small sets need the same steps as larger ones: by epochs they would get too few.
    steps=1500,
    align="turn",
    feature="all",
    whitening=1.0,
    whitening_views="crrl",
    optimizer="adamw",
    lr=1e-3,
    weight_decay=1e-2,
    lr_schedule="cosine",
    warmup=0.1,
    velocity_scale=10.0,
    views="crrl",
    symmetric=True,
    within_stream=1.0,
    # Fewer keys than a small set has clips: among more there would be a clip's own of the epoch before.
    queue_size=128,
    queue_start="empty",
    projection_size=128,
    momentum=0.99,
    key_mlp_momentum=True,
    reconstruction_weight=0.1,
    decoder_size=256,
    decoder_layers=1,
    decode_from="mean",
    velocity_weight=10.0,
    length_buckets=8,
    precision="bf16",
)

# For NTU RGB+D 60 and 120, with 40,000 to 63,000 training clips; reasoned from `fast`, and untried on the full data.
_FAST_NTU = dataclasses.replace(
    _FAST,
    steps=0,
    epochs=60,
    # The learning rate grows with the square root of the batch, as is usual with AdamW.
    batch_size=128,
    lr=2e-3,
    # More clips can fill a larger encoder and a longer queue, whose keys then must age more slowly.
    hidden_size=512,
    queue_size=8192,
    momentum=0.999,
)

# `paper` is the authors' release plus gradient clipping (see README).
RECIPES: dict[str, Recipe] = {"paper": Recipe(), "fast": _FAST, "fast-ntu": _FAST_NTU}


def get_recipe(name: str) -> Recipe:
    """Return the recipe called ``name``.

    Raises:
        ConfigError: no recipe has that name.
    """
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]
