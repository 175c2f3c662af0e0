import math

import pytest
import torch
import torch.nn.functional as F

from crrl_fast.reference import queue_info_nce


def by_hand(query, key, queue, temperature):
    """Return each row's loss from scalars."""
    losses = []
    for q, k in zip(query.tolist(), key.tolist(), strict=True):
        positive = sum(a * b for a, b in zip(q, k, strict=True)) / temperature
        logits = [positive] + [sum(a * b for a, b in zip(q, n, strict=True)) / temperature for n in queue.tolist()]
        top = max(logits)
        losses.append(top + math.log(sum(math.exp(x - top) for x in logits)) - positive)
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize(("batch", "size"), [(1, 0), (1, 1), (5, 7), (3, 0)])
def test_loss_by_hand(batch, size):
    torch.manual_seed(batch)
    query, key = torch.randn(batch, 6).double(), torch.randn(batch, 6).double()
    queue = torch.randn(size, 6).double()
    expected = by_hand(query, key, queue, 0.3)
    torch.testing.assert_close(queue_info_nce(query, key, queue, 0.3, reduction="none"), expected)
    torch.testing.assert_close(queue_info_nce(query, key, queue, 0.3), expected.mean())
    torch.testing.assert_close(queue_info_nce(query, key, queue, 0.3, reduction="sum"), expected.sum())
    unit = by_hand(F.normalize(query), F.normalize(key), queue, 0.3)
    torch.testing.assert_close(queue_info_nce(query, key, queue, 0.3, normalize=True), unit.mean())


def test_gradients():
    torch.manual_seed(0)
    query = torch.randn(4, 5).double().requires_grad_()
    key = torch.randn(4, 5).double().requires_grad_()
    queue = torch.randn(9, 5).double()
    for normalize in (False, True):
        assert torch.autograd.gradcheck(
            lambda q, k, n=normalize: queue_info_nce(q, k, queue, 0.2, normalize=n), (query, key)
        )


def test_accuracy_ranks_the_positive():
    query = torch.eye(3)
    key = torch.tensor([[1.0, 0, 0], [0, 0.5, 0], [0, 0, 0.1]])
    queue = torch.tensor([[0.2, 0.6, 0.3]] * 5)
    _, accuracy = queue_info_nce(query, key, queue, return_accuracy=True)
    torch.testing.assert_close(accuracy, torch.tensor([1 / 3, 1 / 3]))
    _, accuracy = queue_info_nce(query, key, queue[:3], return_accuracy=True)
    torch.testing.assert_close(accuracy, torch.tensor([1 / 3, 1.0]))
    _, collapsed = queue_info_nce(query, key, torch.ones(2, 3), return_accuracy=True)
    assert collapsed[0] == 0


def test_bad_arguments():
    x = torch.ones(1, 2)
    with pytest.raises(ValueError, match="reduction must be mean, sum or none, got 'max'"):
        queue_info_nce(x, x, x, reduction="max")
    with pytest.raises(ValueError, match="temperature must be greater than 0, got 0"):
        queue_info_nce(x, x, x, 0)
