"""What is read off a confusion matrix."""

import re

import numpy as np
import pytest

from crrl_fast.report import classes

NAMES = ("sit", "stand", "wave")
CONFUSION = np.array([[3, 1, 0], [0, 2, 2], [0, 0, 0]])


def test_pairs_come_by_clips_then_share():
    matrix = np.array([[8, 2, 0], [2, 0, 0], [1, 0, 0]])
    pairs = classes.most_confused(matrix, NAMES, 10)
    assert [(p.truth, p.taken, p.clips, p.share) for p in pairs] == [
        ("stand", "sit", 2, 100.0),
        ("sit", "stand", 2, 20.0),
        ("wave", "sit", 1, 100.0),
    ]
    assert classes.most_confused(matrix, NAMES, 1) == pairs[:1]
    assert classes.most_confused(np.eye(3, dtype=int), NAMES, 10) == []


def test_accuracies_are_recalls():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth, taken = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    confusion = metrics.confusion_matrix(truth, taken)
    expected = 100 * metrics.recall_score(truth, taken, average=None)
    np.testing.assert_allclose(classes.accuracies(confusion), expected)


def test_classes_come_best_first_and_those_without_clips_last():
    results = classes.class_results(CONFUSION, NAMES)
    assert [(r.number, r.name, r.accuracy, r.clips) for r in results] == [
        (1, "sit", 75.0, 4),
        (2, "stand", 50.0, 4),
        (3, "wave", None, 0),
    ]


def test_shades_cover_every_cell_that_has_clips_once():
    shaded = classes.shade_paths(CONFUSION)
    cells = {(int(y), int(x)): opacity for opacity, d in shaded for x, y in re.findall(r"M(\d+) (\d+)h1v1h-1z", d)}
    assert set(cells) == set(map(tuple, np.argwhere(CONFUSION).tolist()))
    assert cells[0, 0] > cells[1, 1] > cells[0, 1]
    assert max(cells.values()) <= 1


def test_differences_leave_out_what_a_run_has_no_clips_of():
    other = np.array([[1, 3, 0], [0, 3, 1], [0, 0, 4]])
    found = classes.class_differences([CONFUSION, other], NAMES)
    assert [(d.name, d.accuracies, d.change, d.range) for d in found] == [
        ("sit", (75.0, 25.0), -50.0, 50.0),
        ("stand", (50.0, 75.0), 25.0, 25.0),
    ]
