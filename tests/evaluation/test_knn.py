from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from crrl_fast.errors import ConfigError
from crrl_fast.evaluation import FeatureSet, NearestNeighbours, RunEvaluation, evaluate
from crrl_fast.evaluation.knn import nearest_neighbour_accuracy, nearest_neighbours
from crrl_fast.evaluation.similarity import unit_features
from tests.evaluation.clusters import clusters
from tests.evaluation.runs import make_run


def classify(features, k):
    return nearest_neighbours(unit_features([features], [1.0]), k)


def test_one_neighbour_is_scikit_learns():
    features = clusters(400, 5, spread=2.0)
    peer = KNeighborsClassifier(1, metric="cosine").fit(features.train, features.train_labels)
    assert classify(features, 1).predicted.tolist() == peer.predict(features.test).tolist()
    expected = 100 * peer.score(features.test, features.test_labels)
    assert nearest_neighbour_accuracy(features) == classify(features, 1).accuracy == pytest.approx(expected)
    assert 30 < expected < 90  # neither trivial nor chance


@pytest.mark.parametrize("k", [2, 5, 20, 200])
def test_the_majority_wins_and_among_equals_the_more_similar_class(k):
    features = clusters(400, 5, spread=2.0)
    outcome = classify(features, k)
    peer = KNeighborsClassifier(k, metric="cosine").fit(features.train, features.train_labels)
    distances, neighbours = peer.kneighbors(features.test)
    equals = 0
    for i, (distance, voters) in enumerate(
        zip(distances, features.train_labels[torch.from_numpy(neighbours)], strict=True)
    ):
        votes = Counter(voters.tolist())
        most = [label for label, count in votes.items() if count == max(votes.values())]
        equals += len(most) > 1
        likeness = {label: np.sum(1 - distance[voters == label]) for label in most}
        assert int(outcome.predicted[i]) == max(likeness, key=likeness.get)
        if len(most) == 1:
            assert peer.predict(features.test[i : i + 1]).tolist() == most
    assert k == 200 or equals > 0
    assert outcome.scores.min() >= 0
    assert outcome.scores.max() <= 1


def test_of_equally_near_clips_the_first_is_the_nearest():
    train = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0]])
    features = FeatureSet(train, torch.tensor([0, 2, 1]), torch.tensor([[3.0, 0.0]]), torch.tensor([0]), 3)
    assert classify(features, 1).predicted.tolist() == [2]


def test_votes_outweigh_likeness():
    train = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    features = FeatureSet(train, torch.tensor([0, 1, 1]), torch.tensor([[1.0, 0.0]]), torch.tensor([0]), 2)
    assert [classify(features, k).predicted.tolist() for k in (1, 2, 3)] == [[0], [0], [1]]


@pytest.mark.parametrize("k", [1, 7])
def test_chunks_make_no_difference(monkeypatch, k):
    features = clusters(100, 5, spread=2.0)
    whole = classify(features, k)
    monkeypatch.setattr("crrl_fast.evaluation.similarity._ENTRIES", 7 * 50)
    torch.testing.assert_close(classify(features, k).scores, whole.scores)


def test_k_is_at_least_1_and_at_most_the_training_clips():
    features = clusters(20, 2, spread=1.0)
    assert classify(features, 10).accuracy >= 0
    with pytest.raises(ConfigError, match="k is 11, but there are only 10 training clips"):
        classify(features, 11)
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        NearestNeighbours(0)


def test_several_encoders_vote_by_the_sum_of_their_similarities(tiny_path, tmp_path):
    evaluations = [
        RunEvaluation.open(make_run(tmp_path / stream, tiny_path, stream=stream))
        for stream in ("joint", "motion", "bone")
    ]
    record = evaluate(evaluations, NearestNeighbours(), weights=[0.6, 0.6, 0.4])
    cosine = sum(
        weight * torch.nn.functional.cosine_similarity(e.features.test[:, None], e.features.train[None], dim=2)
        for e, weight in zip(evaluations, (0.6, 0.6, 0.4), strict=True)
    )
    labels = evaluations[0].features.train_labels[cosine.argmax(dim=1)]
    expected = (labels == evaluations[0].features.test_labels).double().mean()
    assert record["accuracy"] == pytest.approx(100 * float(expected))
    assert "weighted sum of the cosine similarities" in record["protocol"]


def test_a_class_that_is_never_trained_on_does_not_break_the_score_within_pretraining():
    features = clusters(40, 4, spread=0.1)
    unseen = replace(features, train_labels=features.train_labels % 3)
    assert nearest_neighbour_accuracy(unseen) == 75
