"""Neighbours of a few clips, beside scikit-learn's."""

import numpy as np
import pytest

from crrl_fast import Store
from crrl_fast.report.gallery import Gallery, Part
from crrl_fast.report.neighbours import choose_queries, find_neighbours


def gallery(train, shown=None, classes=4, seed=0):
    """Return a gallery of random features; ``shown`` clips follow those for training, or are those."""
    rng = np.random.default_rng(seed)
    count = train + (shown or 0)
    walks = rng.normal(size=(count, 1, 20, 3)).astype(np.float32)
    store = Store.from_arrays(list(walks), rng.integers(0, classes, count).tolist(), layout="kinect20")
    features = rng.normal(size=(count, 6)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    part = Part(np.arange(train), features[:train])
    return Gallery(store, part, Part(np.arange(train, count), features[train:]) if shown else part)


def test_neighbours_are_the_nearest_training_clips_by_cosine():
    neighbors = pytest.importorskip("sklearn.neighbors")
    found = gallery(50, 12)
    queries = find_neighbours(found, [(place, False) for place in range(12)])
    oracle = neighbors.NearestNeighbors(n_neighbors=3, metric="cosine").fit(found.train.features)
    distances, nearest = oracle.kneighbors(found.shown.features)
    assert [[n.clip for n in query.neighbours] for query in queries] == nearest.tolist()
    np.testing.assert_allclose(
        [[n.cosine for n in query.neighbours] for query in queries], 1 - distances, rtol=1e-4, atol=1e-6
    )
    assert [query.clip for query in queries] == list(range(50, 62))


def test_a_training_clip_is_not_its_own_neighbour():
    queries = find_neighbours(gallery(20), [(place, False) for place in range(20)])
    assert all(query.clip not in [n.clip for n in query.neighbours] for query in queries)
    assert all(len(query.neighbours) == 3 for query in queries)


def test_fewer_training_clips_than_neighbours():
    assert [len(query.neighbours) for query in find_neighbours(gallery(2), [(0, False), (1, False)])] == [1, 1]


def test_clips_are_chosen_of_different_classes_and_then_mistakes():
    found = gallery(60, 40)
    chosen = choose_queries(found, 4, 2)
    assert [misled for _, misled in chosen] == [False] * 4 + [True] * 2
    assert len({place for place, _ in chosen}) == 6
    labels = found.labels(found.shown.clips)
    assert len({int(labels[place]) for place, misled in chosen if not misled}) == 4
    assert [place * 4 // 40 for place, misled in chosen if not misled] == [0, 1, 2, 3]
    cosines = found.shown.features @ found.train.features.T
    wrong = labels != found.labels(found.train.clips)[cosines.argmax(axis=1)]
    mistakes = [place for place, misled in chosen if misled]
    assert all(wrong[place] for place in mistakes)
    others = [place for place in np.flatnonzero(wrong) if (place, False) not in chosen]
    assert mistakes[0] == max(others, key=lambda place: cosines[place].max())


def test_one_clip_is_enough_to_ask():
    assert choose_queries(gallery(5, 1, classes=1), 4, 2) == [(0, False)]
