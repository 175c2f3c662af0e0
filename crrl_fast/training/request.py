"""What a pretraining run is asked for, and what it does where nothing is said."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import torch

from crrl_fast.config import Recipe
from crrl_fast.data.store import Store
from crrl_fast.device import resolve_device
from crrl_fast.errors import ConfigError
from crrl_fast.fusion import get_fusion
from crrl_fast.recipes import RECIPES, get_recipe
from crrl_fast.reference.info_nce import LARGEST_DIM
from crrl_fast.run import CONFIG_FILE, RunConfig, RunFolder
from crrl_fast.training.keeper import CheckpointPolicy

STAGES = ("ser", "cml", "inf", "joint")
AUTO = "auto"
DEFAULT_RECIPE = "paper"
CUSTOM_RECIPE = "custom"
"""The name that a recipe of one's own has in the run's config."""

_RUNS = Path("runs")

Value = TypeVar("Value")


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
        candidates: run folders to go on with, the first choice first; without any, a new one is made.
        is_search: whether a candidate that was started otherwise is passed over, and not refused.
        force: go on even with a run that was started otherwise.
        checkpoints: when they are written, and how many are kept.
        on_nonfinite: ``stop`` or ``skip``: what is done about a step whose loss or gradient is not finite.
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
    candidates: tuple[Path, ...] = ()
    is_search: bool = False
    force: bool = False
    checkpoints: CheckpointPolicy = field(default_factory=CheckpointPolicy)
    on_nonfinite: str = "stop"

    def __post_init__(self) -> None:
        """Check the stages, the probe and what is done about steps that are not finite.

        Raises:
            ConfigError: a stage is unknown, stands twice, or ``inf`` stands without ``cml`` before it; or queries are
                larger than the contrast takes.
        """
        for stage in self.stages:
            if stage not in STAGES:
                raise ConfigError(f"unknown stage {stage!r}: choose from {', '.join(STAGES)}")
        if not self.stages or len(set(self.stages)) < len(self.stages):
            raise ConfigError(f"stages {','.join(self.stages)!r}: name each stage once, for instance cml,inf")
        if "inf" in self.stages and "cml" not in self.stages[: self.stages.index("inf")]:
            raise ConfigError("stage 'inf' distils the encoder of 'cml': put cml before it, as in cml,inf")
        contrasting = [stage for stage in self.stages if stage in ("cml", "joint")]
        size = self.recipe.projection_size or 2 * self.recipe.hidden_size
        if contrasting and size > LARGEST_DIM:
            raise ConfigError(
                f"stage {contrasting[0]!r} would contrast {size} numbers a clip, and at most {LARGEST_DIM} are taken: "
                "set projection_size, for instance --set projection_size=128"
            )
        if self.probe_every < 0:
            raise ConfigError(f"probe_every must be at least 0, got {self.probe_every}")
        if self.on_nonfinite not in ("stop", "skip"):
            raise ConfigError(f"on_nonfinite must be stop or skip, got {self.on_nonfinite!r}")

    @classmethod
    def resolve(
        cls,
        data: str | Path | Store | None = None,
        *,
        split: str | None = None,
        recipe: str | Recipe | None = None,
        overrides: Mapping[str, Any] | None = None,
        fusion: str | None = None,
        stages: Sequence[str] | None = None,
        out: str | Path | None = None,
        seed: int | None = None,
        device: str | None = None,
        probe_every: int | None = None,
        resume: str | Path | None = None,
        force: bool = False,
        checkpoint_every: int | None = None,
        checkpoint_minutes: float | None = None,
        keep: int | None = None,
        on_nonfinite: str | None = None,
    ) -> PretrainRequest:
        """Return the request in full. What is None is that of the run that ``resume`` names, or else its default.

        Args:
            data: data set name, path of a store, or a store in memory.
            split: split to train on; by default the store's first.
            recipe: a recipe or the name of one; by default ``paper``.
            overrides: fields of the recipe to replace, see ``Recipe.with_overrides``.
            fusion: ``distill``, ``joint`` or ``concat``; by default the recipe's, where no stages are named.
            stages: to train instead of those of a fusion.
            out: the run folder; by default a new ``runs/DATA-RECIPE-TIME``.
            seed: of weights, dropout and shuffling; by default 0.
            device: ``auto``, ``cpu`` or ``cuda``; by default ``auto``.
            probe_every: epochs between nearest-neighbour scores; 0 takes none; by default 10.
            resume: the run folder to go on with; ``auto`` for the one of ``out``, or, without ``out``, the newest in
                ``runs`` that was started in the same way, or a new one where there is none.
            force: go on even with a run that was started otherwise.
            checkpoint_every: epochs of a stage between two checkpoints; 0 for none; by default 5.
            checkpoint_minutes: between two, also within an epoch; 0 for none; by default 10.
            keep: of the newest checkpoints that are kept; by default 3.
            on_nonfinite: ``stop`` or ``skip``: what is done about a step whose loss or gradient is not finite; by
                default ``stop``.

        Raises:
            ConfigError: something is unknown or out of range, both fusion and stages are given, there is no data, or
                ``resume`` names no run folder, or another than ``out``.
        """
        begun = None if resume is None or resume == AUTO else RunFolder.open(Path(resume)).config
        data = data if data is not None or begun is None else begun.data
        if data is None:
            raise ConfigError("which data? Name a data set or the path of a store with --data")
        recipe_name, base = _chosen_recipe(recipe, begun)
        resolved = base.with_overrides(overrides or {})
        if begun is not None and fusion is None and stages is None:
            fusion, stages = begun.fusion, begun.stages
        else:
            fusion, stages = _chosen_stages(fusion, stages, resolved)
        return cls(
            data=data if isinstance(data, Store) else str(data),
            split=begun.split if split is None and begun is not None else split,
            recipe_name=recipe_name,
            recipe=resolved,
            stages=tuple(stages),
            out=_chosen_folder(data, recipe_name, out, resume),
            seed=_first(seed, begun.seed if begun else 0),
            device=resolve_device(_first(device, begun.device if begun else "auto")),
            probe_every=_first(probe_every, begun.probe_every if begun else 10),
            fusion=fusion,
            candidates=_candidates(out, resume),
            is_search=resume == AUTO and out is None,
            force=force,
            checkpoints=_chosen_checkpoints(begun, checkpoint_every, checkpoint_minutes, keep),
            on_nonfinite=_first(on_nonfinite, begun.on_nonfinite if begun else "stop"),
        )


def _first(asked: Value | None, otherwise: Value) -> Value:
    return otherwise if asked is None else asked


def _chosen_stages(
    fusion: str | None, stages: Sequence[str] | None, recipe: Recipe
) -> tuple[str | None, Sequence[str]]:
    if fusion is not None and stages is not None:
        raise ConfigError(f"fusion {fusion!r} chooses the stages itself: give either a fusion or stages")
    if stages is None:
        fusion = fusion or recipe.fusion
        return fusion, get_fusion(fusion).stages
    return None, (stages,) if isinstance(stages, str) else stages  # one name is no sequence of letters


def _chosen_recipe(recipe: str | Recipe | None, begun: RunConfig | None) -> tuple[str, Recipe]:
    if recipe is None:
        return (DEFAULT_RECIPE, get_recipe(DEFAULT_RECIPE)) if begun is None else (begun.recipe_name, begun.recipe)
    return (recipe, get_recipe(recipe)) if isinstance(recipe, str) else (_name_of(recipe), recipe)


def _chosen_checkpoints(
    begun: RunConfig | None, every: int | None, minutes: float | None, keep: int | None
) -> CheckpointPolicy:
    before = CheckpointPolicy()
    if begun is not None:
        before = CheckpointPolicy(begun.checkpoint_every, begun.checkpoint_minutes, begun.keep)
    return CheckpointPolicy(_first(every, before.every), _first(minutes, before.minutes), _first(keep, before.keep))


def _chosen_folder(
    data: str | Path | Store, recipe_name: str, out: str | Path | None, resume: str | Path | None
) -> Path:
    if resume is not None and resume != AUTO:
        if out is not None and Path(out).resolve() != Path(resume).resolve():
            raise ConfigError(f"--out {out}: the run to go on with is {resume}: leave --out away")
        return Path(resume)
    return _new_run_folder(data, recipe_name) if out is None else Path(out)


def _candidates(out: str | Path | None, resume: str | Path | None) -> tuple[Path, ...]:
    if resume is None:
        return ()
    if resume != AUTO:
        return (Path(resume),)
    if out is not None:
        return (Path(out),) if (Path(out) / CONFIG_FILE).is_file() else ()
    configs = sorted(_RUNS.glob(f"*/{CONFIG_FILE}"), key=lambda file: file.stat().st_mtime, reverse=True)
    return tuple(file.parent for file in configs)


def _name_of(recipe: Recipe) -> str:
    return next((name for name, known in RECIPES.items() if known == recipe), CUSTOM_RECIPE)


def _new_run_folder(data: str | Path | Store, recipe_name: str) -> Path:
    """Return ``runs/DATA-RECIPE-TIME``, numbered where several runs start within a second."""
    source = Path(data.info.dataset).name if isinstance(data, Store) else Path(data).stem
    name = f"{source}-{recipe_name}-{datetime.now():%Y%m%d-%H%M%S}"
    numbered = (_RUNS / f"{name}-{number}" for number in itertools.count(2))
    return next(path for path in itertools.chain([_RUNS / name], numbered) if not path.exists())
