"""What became of each class: heat maps, confused pairs, accuracies, and runs beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crrl_fast.report.evaluations import Evaluation

Matrix = npt.NDArray[np.int64]

# A matrix of up to so many classes is a table with its counts; a larger one, or one of several, is a small picture.
MOST_IN_A_TABLE = 24
_PAIRS = 10
_SHADES = 8


@dataclass(frozen=True)
class Pair:
    """Clips of the class ``truth`` that were taken for ``taken``: how many, and in percent of the class."""

    truth: str
    taken: str
    clips: int
    share: float


@dataclass(frozen=True)
class ClassResult:
    """A class: its number from 1, name, accuracy in percent (None without test clips) and test clips."""

    number: int
    name: str
    accuracy: float | None
    clips: int | None


@dataclass(frozen=True)
class ClassDifference:
    """A class of which several runs have an accuracy; ``change`` is the last minus the first, ``range`` the widest."""

    name: str
    accuracies: tuple[float | None, ...]
    change: float
    range: float


def shares(confusion: Matrix) -> npt.NDArray[np.float64]:
    """Return (K, K) shares of each row; zeros where a class has no clips."""
    total = confusion.sum(axis=1, keepdims=True)
    return np.asarray(confusion / np.maximum(total, 1))


def shade_paths(confusion: Matrix) -> list[tuple[float, str]]:
    """Return (opacity, SVG path) pairs that fill the unit squares of a matrix, row down and column across."""
    level = np.ceil(shares(confusion) * _SHADES).astype(int)
    return [
        (shade / _SHADES, "".join(f"M{x} {y}h1v1h-1z" for y, x in np.argwhere(level == shade).tolist()))
        for shade in range(1, _SHADES + 1)
        if (level == shade).any()
    ]


def most_confused(confusion: Matrix, names: Sequence[str], count: int = _PAIRS) -> list[Pair]:
    """Return the pairs with the most clips, of equal ones those with the greater share."""
    share = shares(confusion)
    pairs = [(i, j) for i, j in np.argwhere(confusion > 0).tolist() if i != j]
    pairs.sort(key=lambda pair: (-confusion[pair], -share[pair], pair))
    return [Pair(names[i], names[j], int(confusion[i, j]), 100 * float(share[i, j])) for i, j in pairs[:count]]


def names_of(evaluation: Evaluation, store_names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the class names of a record with a confusion matrix: its own, the store's, or numbers."""
    assert evaluation.confusion is not None
    if evaluation.class_names is not None:
        return evaluation.class_names
    if store_names is not None and len(store_names) == len(evaluation.confusion):
        return tuple(store_names)
    return tuple(f"class {i}" for i in range(len(evaluation.confusion)))


def accuracies(confusion: Matrix) -> list[float | None]:
    """Return the percent of each class that was predicted right; None for a class without test clips."""
    totals, right = confusion.sum(axis=1).tolist(), confusion.diagonal().tolist()
    return [100 * r / n if n else None for r, n in zip(right, totals, strict=True)]


def class_results(confusion: Matrix, names: Sequence[str]) -> list[ClassResult]:
    """Return the classes, the best first and those without test clips last."""
    clips = confusion.sum(axis=1).tolist()
    results = [
        ClassResult(i + 1, name, accuracy, n)
        for i, (name, accuracy, n) in enumerate(zip(names, accuracies(confusion), clips, strict=True))
    ]
    return sorted(results, key=lambda result: (result.accuracy is None, -(result.accuracy or 0), result.number))


def class_differences(confusions: Sequence[Matrix], names: Sequence[str]) -> list[ClassDifference]:
    """Return the classes with the accuracy of each run, those that differ the most first."""
    found = []
    for name, values in zip(names, zip(*map(accuracies, confusions), strict=True), strict=True):
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            found.append(ClassDifference(name, values, known[-1] - known[0], max(known) - min(known)))
    return sorted(found, key=lambda difference: (-difference.range, -difference.change, difference.name))
