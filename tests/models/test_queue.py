import pytest
import torch

from crrl_fast.models import MomentumQueue


@pytest.mark.parametrize("size", [1, 5, 8])
@pytest.mark.parametrize("batch", [1, 3, 5, 7, 23])
def test_the_queue_holds_the_newest_keys(size, batch):
    queue = MomentumQueue(size, 2)
    history = [row.tolist() for row in queue.keys]
    for step in range(6):
        keys = torch.arange(2.0 * batch).view(batch, 2) + 1000 * step
        queue.enqueue(keys)
        history += keys.tolist()
    assert sorted(queue.keys.tolist()) == sorted(history[-size:])
    assert int(queue.cursor) == 6 * batch % size
    oldest_first = torch.roll(queue.keys, -int(queue.cursor), dims=0)
    assert oldest_first.tolist() == history[-size:]


def test_it_starts_full_of_unit_vectors():
    norms = MomentumQueue(16, 5).keys.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(16))


def test_an_empty_queue_takes_keys_and_stays_empty():
    queue = MomentumQueue(0, 4)
    queue.enqueue(torch.randn(3, 4))
    assert queue.keys.shape == (0, 4)


def test_state_holds_keys_and_cursor():
    queue = MomentumQueue(4, 3)
    queue.enqueue(torch.randn(3, 3))
    other = MomentumQueue(4, 3)
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.keys, queue.keys)
    assert int(other.cursor) == 3


def test_keys_are_stored_in_the_queues_dtype_without_gradient():
    queue = MomentumQueue(4, 3, torch.bfloat16)
    keys = torch.randn(2, 3, requires_grad=True)
    queue.enqueue(keys)
    assert torch.equal(queue.keys[:2], keys.detach().bfloat16())
    assert not queue.keys.requires_grad
