"""What a pretraining run is asked for, and what it does where nothing is said."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from crrl_fast.config import Recipe
from crrl_fast.data.store import Store
from crrl_fast.device import resolve_device
from crrl_fast.errors import ConfigError
from crrl_fast.fusion import DEFAULT_FUSION, get_fusion
from crrl_fast.recipes import RECIPES, get_recipe

STAGES = ("ser", "cml", "inf", "joint")
CUSTOM_RECIPE = "custom"
"""The name that a recipe of one's own has in the run's config."""

_RUNS = Path("runs")


@dataclass(frozen=True)
class PretrainRequest:
    """What the user asked for.

    Attributes:
        data: data set name, path of a store, or a store in memory, which is then saved into the run folder.
        split: split to train on; None is the store's first.
        recipe_name: named recipe that ``recipe`` started from.
        recipe: resolved hyperparameters.
        stages: of ``ser``, ``cml``, ``inf`` and ``joint``; ``inf`` needs ``cml`` before it.
        out: the run folder, new or empty.
        seed: of weights, dropout and shuffling.
        device: where to train.
        probe_every: epochs between nearest-neighbour scores; 0 takes none.
        fusion: that the stages were chosen by; None where they were named.
    """

    data: str | Store
    split: str | None
    recipe_name: str
    recipe: Recipe
    stages: tuple[str, ...]
    out: Path
    seed: int
    device: torch.device
    probe_every: int
    fusion: str | None = None

    def __post_init__(self) -> None:
        """Check the stages and the probe.

        Raises:
            ConfigError: a stage is unknown, stands twice, or ``inf`` stands without ``cml`` before it.
        """
        for stage in self.stages:
            if stage not in STAGES:
                raise ConfigError(f"unknown stage {stage!r}: choose from {', '.join(STAGES)}")
        if not self.stages or len(set(self.stages)) < len(self.stages):
            raise ConfigError(f"stages {','.join(self.stages)!r}: name each stage once, for instance cml,inf")
        if "inf" in self.stages and "cml" not in self.stages[: self.stages.index("inf")]:
            raise ConfigError("stage 'inf' distils the encoder of 'cml': put cml before it, as in cml,inf")
        if self.probe_every < 0:
            raise ConfigError(f"probe_every must be at least 0, got {self.probe_every}")

    @classmethod
    def resolve(
        cls,
        data: str | Path | Store,
        *,
        split: str | None = None,
        recipe: str | Recipe = "paper",
        overrides: Mapping[str, Any] | None = None,
        fusion: str | None = None,
        stages: Sequence[str] | None = None,
        out: str | Path | None = None,
        seed: int = 0,
        device: str = "auto",
        probe_every: int = 10,
    ) -> PretrainRequest:
        """Return the request in full.

        Args:
            data: data set name, path of a store, or a store in memory.
            split: split to train on; None is the store's first.
            recipe: a recipe or the name of one.
            overrides: fields of the recipe to replace, see ``Recipe.with_overrides``.
            fusion: ``distill``, ``joint`` or ``concat``; None is ``distill`` where no stages are named.
            stages: to train instead of those of a fusion.
            out: the run folder; None is a new ``runs/DATA-RECIPE-TIME``.
            seed: of weights, dropout and shuffling.
            device: ``auto``, ``cpu`` or ``cuda``.
            probe_every: epochs between nearest-neighbour scores; 0 takes none.

        Raises:
            ConfigError: something is unknown or out of range, or both fusion and stages are given.
        """
        if fusion is not None and stages is not None:
            raise ConfigError(f"fusion {fusion!r} chooses the stages itself: give either a fusion or stages")
        if stages is None:
            fusion = fusion or DEFAULT_FUSION
            stages = get_fusion(fusion).stages
        elif isinstance(stages, str):  # one name, and not a sequence of letters
            stages = (stages,)
        base = get_recipe(recipe) if isinstance(recipe, str) else recipe
        recipe_name = recipe if isinstance(recipe, str) else _name_of(recipe)
        return cls(
            data=data if isinstance(data, Store) else str(data),
            split=split,
            recipe_name=recipe_name,
            recipe=base.with_overrides(overrides or {}),
            stages=tuple(stages),
            out=_new_run_folder(data, recipe_name) if out is None else Path(out),
            seed=seed,
            device=resolve_device(device),
            probe_every=probe_every,
            fusion=fusion,
        )


def _name_of(recipe: Recipe) -> str:
    return next((name for name, known in RECIPES.items() if known == recipe), CUSTOM_RECIPE)


def _new_run_folder(data: str | Path | Store, recipe_name: str) -> Path:
    """Return ``runs/DATA-RECIPE-TIME``, numbered where several runs start within a second."""
    source = Path(data.info.dataset).name if isinstance(data, Store) else Path(data).stem
    name = f"{source}-{recipe_name}-{datetime.now():%Y%m%d-%H%M%S}"
    numbered = (_RUNS / f"{name}-{number}" for number in itertools.count(2))
    return next(path for path in itertools.chain([_RUNS / name], numbered) if not path.exists())
