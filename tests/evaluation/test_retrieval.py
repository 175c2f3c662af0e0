import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from crrl_fast.errors import ConfigError
from crrl_fast.evaluation import FeatureSet, Retrieval, RunEvaluation, evaluate
from crrl_fast.evaluation.retrieval import rank
from crrl_fast.evaluation.similarity import unit_features
from tests.evaluation.clusters import clusters
from tests.evaluation.runs import make_run


def naive(features, leave_one_out):
    """Return average precision, rank of the first relevant clip and class of the nearest clip, query by query."""
    gallery, labels = (
        (features.test, features.test_labels) if leave_one_out else (features.train, features.train_labels)
    )
    gallery, labels = gallery.double().numpy(), labels.numpy()
    results = []
    for i, (query, label) in enumerate(zip(features.test.double().numpy(), features.test_labels.tolist(), strict=True)):
        keep = np.arange(len(gallery)) != (i if leave_one_out else -1)
        likeness = gallery[keep] @ query / np.linalg.norm(gallery[keep], axis=1) / np.linalg.norm(query)
        relevant = labels[keep] == label
        order = np.argsort(-likeness)
        precision = average_precision_score(relevant, likeness) if relevant.any() else np.nan
        first = int(relevant[order].argmax())
        results.append((precision, first, int(labels[keep][order[0]])))
    return [np.array(column) for column in zip(*results, strict=True)]


@pytest.mark.parametrize("leave_one_out", [False, True])
@pytest.mark.parametrize("entries", [10**6, 333])
def test_rankings_agree_with_scikit_learn_query_by_query(leave_one_out, entries, monkeypatch):
    monkeypatch.setattr("crrl_fast.evaluation.similarity._ENTRIES", entries)
    features = clusters(200, 5, spread=2.0)
    ranked = rank(unit_features([features], [1.0]), leave_one_out=leave_one_out)
    precision, first, nearest = naive(features, leave_one_out)
    np.testing.assert_allclose(ranked.precision.numpy(), precision, rtol=1e-12)
    assert ranked.first.tolist() == first.tolist()
    assert ranked.nearest.tolist() == nearest.tolist()
    assert 0.2 < precision.mean() < 0.9


def hand_made(test_labels, train_labels):
    """Return features on a half circle: training clip i is 10 i degrees off the test clips, which all are at 0."""
    angle = torch.deg2rad(10 * torch.arange(len(train_labels), dtype=torch.float32))
    train = torch.stack([angle.cos(), angle.sin()], dim=1)
    test = torch.tensor([[1.0, 0.0]]).repeat(len(test_labels), 1)
    return FeatureSet(train, torch.tensor(train_labels), test, torch.tensor(test_labels), 4)


def test_a_ranking_counted_by_hand():
    ranked = rank(hand_made([0, 1, 2, 3], [1, 0, 0, 2, 1]))
    assert ranked.precision[:3].tolist() == pytest.approx([(1 / 2 + 2 / 3) / 2, (1 + 2 / 5) / 2, 1 / 4])
    assert torch.isnan(ranked.precision[3])
    assert ranked.first[:3].tolist() == [1, 0, 3]
    assert ranked.nearest.tolist() == [1, 1, 1, 1]


def test_clips_that_are_equally_similar_keep_their_order():
    features = hand_made([0], [0, 0, 0, 0])
    features.train[:] = torch.tensor([1.0, 0.0])
    features.train_labels[:] = torch.tensor([1, 0, 1, 0])
    assert rank(features).precision.tolist() == [(1 / 2 + 2 / 4) / 2]


class Given:
    """An evaluation of features that are there already."""

    def __init__(self, features):
        self.features = features


def test_what_a_record_says_of_a_ranking():
    found = Retrieval(recall_at=(1, 2, 100)).run(Given(hand_made([0, 1, 2, 0], [1, 0, 0, 2, 1])))
    precision = [100 * (1 / 2 + 2 / 3) / 2, 100 * (1 + 2 / 5) / 2, 25]
    assert found.details["map"] == pytest.approx((2 * precision[0] + precision[1] + precision[2]) / 4)
    assert found.details["per_class_map"][:3] == pytest.approx(precision)
    assert found.details["per_class_map"][3] is None
    assert found.details["recall"] == {"1": 25, "2": 75, "100": 100}
    assert found.outcome.accuracy == 25
    assert found.details["queries_left_out"] == 0


def test_a_query_without_another_clip_of_its_class_is_left_out_and_counted():
    features = hand_made([0, 0, 1, 2], [0])
    features.test[:] = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    found = Retrieval("test").run(Given(features))
    assert found.details["queries_left_out"] == 2
    assert found.details["map"] == 100
    assert found.details["per_class_map"] == [100, None, None, None]
    assert found.details["recall"]["1"] == 100
    assert found.outcome.accuracy == 50
    with pytest.raises(ConfigError, match="no test clip has another clip of its class"):
        Retrieval("test").run(Given(hand_made([0, 1], [0])))


@pytest.mark.parametrize("gallery", ["train", "test"])
def test_several_encoders_rank_by_the_sum_of_their_similarities(gallery, tiny_path, tmp_path):
    evaluations = [
        RunEvaluation.open(make_run(tmp_path / stream, tiny_path, stream=stream)) for stream in ("joint", "bone")
    ]
    record = evaluate(evaluations, Retrieval(gallery), weights=[1.0, 0.0])
    alone = evaluate(evaluations[0], Retrieval(gallery))
    for key in ("map", "recall", "per_class_map", "accuracy", "confusion"):
        assert record[key] == pytest.approx(alone[key]) if isinstance(record[key], float) else record[key] == alone[key]
    assert [stream["map"] for stream in record["streams"]] == [
        alone["map"],
        evaluate(evaluations[1], Retrieval(gallery))["map"],
    ]
    both = evaluate(evaluations, Retrieval(gallery))
    fused = unit_features([evaluation.features for evaluation in evaluations], [1, 1])
    precision, _, _ = naive(fused, gallery == "test")
    assert both["map"] == pytest.approx(100 * precision.mean())


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"gallery": "all"}, "train or test, got 'all'"), ({"recall_at": (0,)}, "at least 1"), ({"recall_at": ()}, "at")],
)
def test_unusable_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        Retrieval(**settings)
