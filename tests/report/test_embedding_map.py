"""The map: groups stay groups, and labels stay apart."""

import itertools

import numpy as np
import pytest
import torch

from crrl_fast import Store
from crrl_fast.report import embedding_map
from crrl_fast.report.embedding_map import NARROW, WIDE, draw_map
from crrl_fast.report.gallery import Gallery, Part, encode_split

pytest.importorskip("sklearn")


def gallery(labels, features, names=None):
    count = len(labels)
    walks = np.random.default_rng(0).normal(size=(count, 1, 20, 3)).astype(np.float32)
    store = Store.from_arrays(list(walks), labels, layout="kinect20", class_names=names)
    part = Part(np.arange(count), np.asarray(features, dtype=np.float32))
    return Gallery(store, part, part)


def grouped(classes, each, width=16, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, width))
    labels = np.repeat(np.arange(classes), each)
    features = centres[labels] + 0.05 * rng.normal(size=(len(labels), width))
    return labels.tolist(), features / np.linalg.norm(features, axis=1, keepdims=True)


def test_groups_of_features_are_groups_on_the_map_and_labels_lie_in_them():
    metrics = pytest.importorskip("sklearn.metrics")
    labels, features = grouped(4, 30)
    plane = draw_map(gallery(labels, features))
    assert metrics.silhouette_score(plane.points, plane.classes) > 0.7
    assert (plane.points >= 0).all() and (plane.points <= 1).all()
    for label in plane.labels:
        nearest = np.linalg.norm(plane.points - label.wide, axis=1).argmin()
        assert plane.classes[nearest] == label.label


def test_the_same_clips_give_the_same_map():
    labels, features = grouped(3, 20)
    one, two = (draw_map(gallery(labels, features)) for _ in range(2))
    assert np.array_equal(one.points, two.points)
    assert one.labels == two.labels


@pytest.mark.parametrize("classes", [3, 20, 60])
def test_labels_do_not_overlap_even_of_features_without_classes(classes):
    rng = np.random.default_rng(0)
    labels = (np.arange(3 * classes) % classes).tolist()
    names = [f"a name of some length {i}" for i in range(classes)]
    plane = draw_map(gallery(labels, rng.normal(size=(len(labels), 8)), names))
    assert plane.named == (classes <= 20)
    boxes = {
        WIDE: [(label.wide, len(names[label.label]) if plane.named else 2) for label in plane.labels],
        NARROW: [(label.narrow, 2) for label in plane.labels],
    }
    for size, labelled in boxes.items():
        for ((x, y), n), ((u, v), m) in itertools.combinations(labelled, 2):
            apart = abs(x - u) * size[0] >= 6 * (n + m) / 2 or abs(y - v) * size[1] >= 15
            assert apart, size


def test_many_clips_are_thinned_at_even_steps(monkeypatch):
    monkeypatch.setattr(embedding_map, "MOST_CLIPS", 10)
    labels, features = grouped(2, 15)
    plane = draw_map(gallery(labels, features))
    assert (len(plane.points), plane.of) == (10, 30)
    assert plane.classes.tolist() == [0] * 5 + [1] * 5


def test_too_few_clips_or_features_all_alike_give_no_map():
    labels, features = grouped(2, 3)
    assert draw_map(gallery(labels, features)) is None
    assert draw_map(gallery([0, 1] * 10, np.ones((20, 4)))) is None


def test_features_are_those_of_the_runs_own_split(tiny_run, tiny_store):
    from crrl_fast.report.collect import read_run

    found = encode_split(read_run(tiny_run, "run", None), tiny_store, torch.device("cpu"))
    train, test = tiny_store.split("xview")
    assert found.train.clips.tolist() == train.tolist()
    assert found.shown.clips.tolist() == test.tolist()
    np.testing.assert_allclose(np.linalg.norm(found.shown.features, axis=1), 1, rtol=1e-5)
    encoder = tiny_run.load_encoder("inf").eval()
    seen = tiny_store.processed(tiny_run.config.recipe.preprocessing())
    clip = seen.clip(int(test[3])).reshape(1, -1, 60)
    expected = encoder(clip, torch.tensor([clip.shape[1]])).feature[0].detach()
    np.testing.assert_allclose(found.shown.features[3], expected / expected.norm(), rtol=1e-3, atol=1e-5)
