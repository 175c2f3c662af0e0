"""The named recipes."""

from __future__ import annotations

from crrl_fast.config import Recipe
from crrl_fast.errors import ConfigError

# `paper` is the authors' release plus gradient clipping (see README); `fast` starts as its copy.
RECIPES: dict[str, Recipe] = {"paper": Recipe(), "fast": Recipe()}


def get_recipe(name: str) -> Recipe:
    """Return the recipe called ``name``.

    Raises:
        ConfigError: no recipe has that name.
    """
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]
