"""A few clips and what their nearest neighbours are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crrl_fast.report.gallery import Gallery

NEIGHBOURS = 3


@dataclass(frozen=True)
class Neighbour:
    """One neighbour of a clip: its place in the store, and the cosine of the two features."""

    clip: int
    cosine: float


@dataclass(frozen=True)
class Query:
    """A clip and its nearest neighbours, the nearest first.

    Attributes:
        clip: its place in the store.
        neighbours: training clips other than itself.
        misled: chosen because its nearest neighbour is of another class.
    """

    clip: int
    neighbours: tuple[Neighbour, ...]
    misled: bool


def choose_queries(gallery: Gallery, even: int, misled: int) -> list[tuple[int, bool]]:
    """Choose shown clips to look at, as places among the shown clips, each with whether it was chosen as a mistake.

    Args:
        gallery: where from.
        even: how many are taken at even steps.
        misled: how many more are taken whose nearest neighbour is of another class and looks the most like them.
    """
    count = len(gallery.shown.clips)
    # The middles of equal stretches: the ends of a data set are often of one kind.
    chosen = list(dict.fromkeys(int((i + 0.5) * count / even) for i in range(min(even, count))))
    cosines, nearest = _nearest(gallery, 1)
    truth = gallery.labels(gallery.shown.clips)
    taken_for = gallery.labels(gallery.train.clips[nearest[:, 0]])
    wrong = np.flatnonzero((truth >= 0) & (taken_for >= 0) & (truth != taken_for))
    surest = wrong[np.argsort(-cosines[wrong, 0], kind="stable")]
    mistakes: list[int] = []
    classes: set[int] = set()
    for place in surest.tolist():
        if len(mistakes) < misled and place not in chosen and int(truth[place]) not in classes:
            mistakes.append(place)
            classes.add(int(truth[place]))
    return [(place, False) for place in chosen] + [(place, True) for place in mistakes]


def find_neighbours(gallery: Gallery, chosen: list[tuple[int, bool]]) -> list[Query]:
    """Find the nearest training clips of the chosen ones."""
    cosines, nearest = _nearest(gallery, NEIGHBOURS)
    return [
        Query(
            int(gallery.shown.clips[place]),
            tuple(
                Neighbour(int(gallery.train.clips[other]), float(cosine))
                for cosine, other in zip(cosines[place], nearest[place], strict=True)
                if np.isfinite(cosine)
            ),
            misled,
        )
        for place, misled in chosen
    ]


def _nearest(gallery: Gallery, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, count) cosines, falling, and places in the training part; -inf stands for a clip beside itself."""
    count = min(count, len(gallery.train.clips))
    found = []
    for start in range(0, len(gallery.shown.clips), 1024):
        cosines = gallery.shown.features[start : start + 1024] @ gallery.train.features.T
        if gallery.shows_training:
            rows = np.arange(len(cosines))
            cosines[rows, start + rows] = -np.inf
        nearest = np.sort(np.argpartition(-cosines, count - 1, axis=1)[:, :count], axis=1)
        near = np.take_along_axis(cosines, nearest, axis=1)
        order = np.argsort(-near, axis=1, kind="stable")
        found.append((np.take_along_axis(near, order, axis=1), np.take_along_axis(nearest, order, axis=1)))
    return np.concatenate([c for c, _ in found]), np.concatenate([n for _, n in found])
