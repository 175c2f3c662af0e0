import pytest
import torch
import torch.nn.functional as F

from crrl_fast.evaluation import similarity
from crrl_fast.evaluation.similarity import nearest, ranking, similarities, unit_features
from tests.evaluation.clusters import clusters

EQUALS = torch.tensor(
    [[0.5, -0.5, 0.5, -0.25, 0.5], [0.0, -0.0, 0.0, 1.0, -1.0], [-0.5, -torch.inf, -0.25, -0.5, 1e-42]]
)


def test_inner_products_are_the_weighted_mean_of_cosines():
    sets = [clusters(20, 4, spread=1.0, seed=seed) for seed in range(3)]
    fused = unit_features(sets, [3.0, 0.0, 1.0])
    cosines = [F.cosine_similarity(one.test[:, None], one.train[None], dim=2) for one in sets]
    torch.testing.assert_close(fused.test @ fused.train.T, 0.75 * cosines[0] + 0.25 * cosines[2])
    assert torch.equal(fused.test_labels, sets[0].test_labels)


def test_similarities_come_in_chunks_of_bounded_size_and_in_order(monkeypatch):
    monkeypatch.setattr(similarity, "_ENTRIES", 30)
    features = clusters(50, 5, spread=1.0)
    chunks = list(similarities(features.test, features.train[:10]))
    assert [len(chunk) for chunk in chunks] == [3] * 8 + [1]
    torch.testing.assert_close(torch.cat(chunks), features.test @ features.train[:10].T)


@pytest.mark.parametrize("values", [EQUALS, torch.randn(20, 257, generator=torch.Generator().manual_seed(0))])
def test_rankings_are_those_of_a_stable_sort(values, device):
    expected = values.argsort(dim=1, descending=True, stable=True)
    values = values.to(device)
    assert torch.equal(ranking(values).cpu(), expected)
    for k in (1, 2, values.shape[1]):
        assert torch.equal(nearest(values, k).cpu(), expected[:, :k])
