import pytest
import torch

from crrl_fast.data.batches import resident_split
from crrl_fast.data.info import Split
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError
from crrl_fast.evaluation.features import FeatureSet, extract_features
from crrl_fast.models import MotionEncoder
from tests.conftest import random_walks


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
