import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from crrl_fast.errors import ConfigError
from crrl_fast.evaluation import LinearProbe
from crrl_fast.evaluation.linear import linear_probe
from tests.evaluation.clusters import clusters


def test_what_is_separable_is_separated():
    assert linear_probe(clusters(200, 4, spread=0.2), LinearProbe(epochs=20, batch_size=16)).accuracy == 100


def test_the_last_epoch_is_the_result_and_its_scores_are_kept():
    result = linear_probe(clusters(200, 4, spread=4.0), LinearProbe(epochs=30, batch_size=16))
    assert len(result.curve) == 30
    assert result.accuracy == result.curve[-1] == result.outcome.accuracy
    assert result.best_accuracy == max(result.curve) > result.accuracy
    torch.testing.assert_close(result.outcome.scores.sum(dim=1), torch.ones(100, dtype=torch.float64))


def test_with_a_penalty_it_finds_what_logistic_regression_does():
    features = clusters(400, 4, spread=2.0)
    penalty = 0.01
    # scikit-learn leaves an intercept out of the penalty, a column of ones not: nor does SGD leave out the bias.
    train, test = (
        np.pad(part.numpy(), ((0, 0), (0, 1)), constant_values=1) for part in (features.train, features.test)
    )
    peer = LogisticRegression(C=1 / (penalty * len(train)), fit_intercept=False, tol=1e-8, max_iter=1000)
    peer.fit(train, features.train_labels)
    probe = LinearProbe(epochs=300, lr=0.1, batch_size=200, weight_decay=penalty)
    scores = linear_probe(features, probe).outcome.scores
    np.testing.assert_allclose(scores.numpy(), peer.predict_proba(test), atol=2e-3)


def test_it_is_reproducible():
    features = clusters(100, 4, spread=3.0)
    first, again, other = (linear_probe(features, LinearProbe(epochs=3, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(first.outcome.scores, again.outcome.scores)
    assert first.curve == again.curve
    assert first.curve != other.curve


@pytest.mark.parametrize(
    "setting", [{"epochs": 0}, {"lr": -1.0}, {"lr": float("nan")}, {"batch_size": 0}, {"weight_decay": -1.0}]
)
def test_unusable_settings(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        LinearProbe(**setting)
