"""The protocols that are run together, with their default settings."""

from __future__ import annotations

from crrl_fast.evaluation.finetune import FineTune
from crrl_fast.evaluation.knn import NearestNeighbours
from crrl_fast.evaluation.linear import LinearProbe
from crrl_fast.evaluation.protocol import Protocol
from crrl_fast.evaluation.retrieval import Retrieval
from crrl_fast.evaluation.semi import SemiSupervised
from crrl_fast.evaluation.tuning import Tuning


def all_protocols(seed: int = 0) -> tuple[Protocol, ...]:
    """Return every protocol on a run's own data, with ``seed`` where chance has a part in it."""
    return (
        LinearProbe(seed=seed),
        NearestNeighbours(),
        FineTune(Tuning(seed=seed)),
        SemiSupervised(Tuning(seed=seed)),
        Retrieval(),
    )
