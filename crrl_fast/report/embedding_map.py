"""Clip features as points in a plane, with the labels of their classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crrl_fast.report.gallery import Features, Gallery, Indices

MOST_CLIPS = 2000
_FEWEST_CLIPS = 8
_PERPLEXITY = 30.0
_MARGIN = 0.03  # of the map, around its points
# Labels must not overlap at two widths of the map: (width, height) of the map in CSS pixels, then of a label: each
# character of it, its padding and its height.
WIDE, NARROW = (620, 470), (340, 258)
_CHARACTER, _PADDING, _LINE = 6.6, 8.0, 17.0
_ROUNDS = 400
_MOST_NAMES = 20

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClassLabel:
    """The label of a class on the map.

    Attributes:
        label: the class.
        wide: (x, y) of its middle on a wide map, where it may be a name, as shares of the map from its top left.
        narrow: the same on a narrow map, where it is a number.
    """

    label: int
    wide: tuple[float, float]
    narrow: tuple[float, float]


@dataclass(frozen=True)
class EmbeddingMap:
    """A map.

    Attributes:
        points: (N, 2) shares of the map from its top left.
        classes: (N) the class of each point, -1 unknown.
        labels: one for each class that has points.
        named: whether a wide map has room for the classes' names; otherwise it has numbers, too.
        of: clips that it was drawn from, N or more.
    """

    points: Points
    classes: Indices
    labels: tuple[ClassLabel, ...]
    named: bool
    of: int


def draw_map(gallery: Gallery) -> EmbeddingMap | None:
    """Lay the shown clips out in a plane by t-SNE; at most ``MOST_CLIPS`` of them, taken at even steps.

    None where there are too few clips, or their features are all alike.
    """
    part = gallery.shown
    count = len(part.clips)
    chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_CLIPS)).round().astype(np.int64))
    features = part.features[chosen]
    if len(chosen) < _FEWEST_CLIPS or float(features.std(axis=0).max()) < 1e-6:
        return None
    points = _fit(_tsne(features))
    classes = gallery.labels(part.clips[chosen])
    names = gallery.store.info.class_names
    present = [label for label in np.unique(classes).tolist() if label >= 0]
    named = len(present) <= _MOST_NAMES
    texts = [names[label] if named else str(label + 1) for label in present]
    return EmbeddingMap(points, classes, _place_labels(points, classes, present, texts), named, count)


def _tsne(features: Features) -> Points:
    """Return (N, 2) positions; one thread, because sums in another order give another map."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
    with threadpool_limits(limits=1):
        tsne = TSNE(init="pca", learning_rate="auto", perplexity=perplexity, random_state=0)
        return np.asarray(tsne.fit_transform(features.astype(np.float64)), dtype=np.float64)


def _fit(positions: Points) -> Points:
    """Bring positions into the map, the longer of their two axes along its width, to one scale on both."""
    extent = np.ptp(positions, axis=0)
    if extent[1] > extent[0]:
        positions, extent = positions[:, ::-1], extent[::-1]
    centred = positions - (positions.max(axis=0) + positions.min(axis=0)) / 2
    ratio = WIDE[1] / WIDE[0]
    scale = (1 - 2 * _MARGIN) / max(extent[0], extent[1] / ratio)
    return np.asarray(0.5 + centred * scale / np.array([1, ratio]))


def _place_labels(points: Points, classes: Indices, present: list[int], texts: list[str]) -> tuple[ClassLabel, ...]:
    if not present:
        return ()
    anchors = np.array([_densest(points[classes == label]) for label in present])
    wide = _spread(anchors, [len(text) for text in texts], WIDE)
    narrow = _spread(anchors, [len(str(label + 1)) for label in present], NARROW)
    return tuple(
        ClassLabel(label, (float(x), float(y)), (float(u), float(v)))
        for label, (x, y), (u, v) in zip(present, wide, narrow, strict=True)
    )


def _densest(points: Points) -> Points:
    """Return the point (2) whose median distance to the others is the least."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    return np.asarray(points[np.median(distances, axis=1).argmin()])


def _spread(anchors: Points, characters: list[int], size: tuple[int, int]) -> Points:
    """Move labels apart until none overlaps another, each as little as its turn allows, within the map."""
    box = np.array(size, dtype=np.float64)
    half = np.array([[_CHARACTER * count + _PADDING, _LINE] for count in characters]) / 2
    middle = anchors * box
    for _ in range(_ROUNDS):
        middle = np.clip(middle, half, np.maximum(box - half, half))
        moved = False
        for i in range(len(middle)):
            for j in range(i + 1, len(middle)):
                gap = middle[j] - middle[i]
                overlap = half[i] + half[j] - np.abs(gap)
                if (overlap <= 0).any():
                    continue
                moved = True
                axis = int(overlap.argmin())
                push = (overlap[axis] / 2 + 0.25) * (1 if gap[axis] >= 0 else -1)
                middle[i, axis] -= push
                middle[j, axis] += push
        if not moved:
            break
    return middle / box
