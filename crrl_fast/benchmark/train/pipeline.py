"""The whole of ``cml,inf``: preparation once, then all epochs of both stages at the rates that were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crrl_fast.benchmark.record import Spread
from crrl_fast.benchmark.train.record import STOCK, PipelineRecord, Preparation
from crrl_fast.benchmark.train.speed import StageTimes
from crrl_fast.config import Recipe

STAGES = ("cml", "inf")

HOW = (
    "whole of cml,inf: preparation once, plus epochs * training clips / clips per second of each stage; one value a "
    "round, from that round's rates; an epoch's log, probe and checkpoint are in nobody's"
)


def length(recipe: Mapping[str, Any]) -> str:
    """Return the length of a stage in words, by the fields of a recipe; records of before have no ``steps``."""
    steps = recipe.get("steps", 0)
    return f"{steps} steps rounded up to whole epochs" if steps else f"{recipe['epochs']} epochs"


def pipeline(
    times: Mapping[str, StageTimes], preparation: Sequence[Preparation], clips: int, recipe: Recipe
) -> tuple[PipelineRecord, ...]:
    """Return the figures of every contender, or nothing where not both stages were timed.

    Args:
        times: of each stage.
        preparation: of each contender.
        clips: training clips.
        recipe: epochs or steps a stage, and batch size.
    """
    if not set(STAGES) <= set(times):
        return ()
    epochs = recipe.epochs_on(clips)
    steps = epochs * clips / recipe.batch_size
    totals = {
        prepared.name: [
            sum(prepared.seconds.values()) + steps * sum(seconds)
            for seconds in zip(*(times[stage].seconds[prepared.name] for stage in STAGES), strict=True)
        ]
        for prepared in preparation
    }
    trained = len(STAGES) * epochs * clips
    return tuple(
        PipelineRecord(
            name,
            Spread.of(seconds),
            Spread.of([trained / taken for taken in seconds]),
            Spread.of([theirs / taken for theirs, taken in zip(totals[STOCK], seconds, strict=True)]),
        )
        for name, seconds in totals.items()
    )
