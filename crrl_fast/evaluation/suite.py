"""The protocols that are run together, with their default settings."""

from __future__ import annotations

from dataclasses import fields

from crrl_fast.evaluation.knn import NearestNeighbours
from crrl_fast.evaluation.linear import LinearProbe
from crrl_fast.evaluation.protocol import Protocol
from crrl_fast.evaluation.retrieval import Retrieval

SUITE: tuple[type[Protocol], ...] = (LinearProbe, NearestNeighbours, Retrieval)


def suite(seed: int = 0) -> list[Protocol]:
    """Return each protocol with its default settings, and with ``seed`` where chance has a part in it."""
    return [
        protocol(**({"seed": seed} if any(field.name == "seed" for field in fields(protocol)) else {}))
        for protocol in SUITE
    ]
