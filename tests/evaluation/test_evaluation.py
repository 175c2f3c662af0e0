import pytest
import torch

from crrl_fast.data.batches import resident_split
from crrl_fast.data.info import Split
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError
from crrl_fast.evaluation.features import FeatureSet, extract_features
from crrl_fast.evaluation.knn import nearest_neighbour_accuracy
from crrl_fast.evaluation.linear import LinearProbe, linear_probe
from crrl_fast.models import MotionEncoder
from tests.conftest import random_walks


def clusters(count, classes, spread, seed=0):
    """Return a feature set whose classes are Gaussian clusters around orthogonal directions."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    points = 3 * torch.eye(classes, 16)[labels] + spread * torch.randn(count, 16, generator=generator)
    half = count // 2
    return FeatureSet(points[:half], labels[:half], points[half:], labels[half:], classes)


def test_features_do_not_depend_on_batching_dropout_or_order(tiny_store, cpu):
    torch.manual_seed(0)
    encoder = MotionEncoder(60, 8, 2, dropout=0.5).train()
    train, _ = resident_split(tiny_store, None, cpu)
    features = extract_features(encoder, train)
    assert encoder.training
    assert not features.requires_grad
    singles = [train.batch(position) for position in torch.arange(len(train)).split(1)]
    one_by_one = [encoder.eval()(batch.coords, batch.lengths).feature for batch in singles]
    torch.testing.assert_close(features, torch.cat(one_by_one).detach(), rtol=1e-5, atol=1e-6)


def test_nearest_neighbour_matches_scikit_learn():
    from sklearn.neighbors import KNeighborsClassifier

    features = clusters(400, 5, spread=2.0)
    peer = KNeighborsClassifier(1, metric="cosine").fit(features.train, features.train_labels)
    expected = 100 * peer.score(features.test, features.test_labels)
    assert nearest_neighbour_accuracy(features) == pytest.approx(expected)
    assert 30 < expected < 90  # neither trivial nor chance


def test_nearest_neighbour_compares_in_chunks(monkeypatch):
    features = clusters(100, 5, spread=2.0)
    whole = nearest_neighbour_accuracy(features)
    monkeypatch.setattr("crrl_fast.evaluation.similarity._ENTRIES", 7 * 50)
    assert nearest_neighbour_accuracy(features) == whole


def test_linear_probe_separates_what_is_separable_and_reports_the_last_epoch():
    result = linear_probe(clusters(200, 4, spread=0.2), LinearProbe(epochs=20, batch_size=16))
    assert result.accuracy == 100
    noisy = linear_probe(clusters(200, 4, spread=4.0), LinearProbe(epochs=30, batch_size=16))
    assert len(noisy.curve) == 30
    assert noisy.accuracy == noisy.curve[-1]
    assert noisy.best_accuracy == max(noisy.curve) >= noisy.accuracy


def test_linear_probe_is_reproducible():
    features = clusters(100, 4, spread=3.0)
    first, again, other = (linear_probe(features, LinearProbe(epochs=3, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(first.outcome.scores, again.outcome.scores)
    assert first.curve == again.curve
    assert first.curve != other.curve


@pytest.mark.parametrize("setting", [{"epochs": 0}, {"lr": -1.0}, {"batch_size": 0}])
def test_unusable_settings(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        LinearProbe(**setting)


def test_unlabelled_clips_are_left_out_and_a_part_without_labels_is_refused(cpu):
    encoder = MotionEncoder(60, 4, 1, 0.0)
    store = Store.from_arrays(
        random_walks(6),
        labels=[0, -1, 1, 0, -1, 1],
        camera=[1, 1, 1, 2, 2, 2],
        layout="kinect20",
        splits={"x": Split("camera", (1,))},
    )
    features = FeatureSet.extract(encoder, *resident_split(store, None, cpu), store.num_classes)
    assert (features.train_labels.tolist(), features.test_labels.tolist()) == ([0, 1], [0, 1])
    assert (len(features.train), len(features.test)) == (2, 2)
    store.labels[3:] = -1
    with pytest.raises(ConfigError, match="test part of the split has no labelled clips"):
        FeatureSet.extract(encoder, *resident_split(store, None, cpu), store.num_classes)
