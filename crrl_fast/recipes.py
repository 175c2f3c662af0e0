"""The named recipes."""

from __future__ import annotations

from crrl_fast.config import Recipe
from crrl_fast.errors import ConfigError

# `paper` is the authors' release plus gradient clipping (see README). `fast` differs only in how it computes: products
# in bfloat16, and batches of clips of similar length. Buckets of 8 batches leave 7 percent of a batch's frames to
# padding on NW-UCLA, where uniform batches of 32 have 39 percent; more buckets would gain little and mix less.
RECIPES: dict[str, Recipe] = {"paper": Recipe(), "fast": Recipe(precision="bf16", length_buckets=8)}


def get_recipe(name: str) -> Recipe:
    """Return the recipe called ``name``.

    Raises:
        ConfigError: no recipe has that name.
    """
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]
