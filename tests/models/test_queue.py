import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from crrl_fast.models import MomentumQueue
from crrl_fast.ops import queue_info_nce


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


def test_an_empty_start_counts_filled_slots_only():
    torch.manual_seed(0)
    queue = MomentumQueue(10, 4, start="empty")
    query, key = F.normalize(torch.randn(3, 4)), F.normalize(torch.randn(3, 4))
    assert float(queue_info_nce(query, key, queue.keys, filled=queue.filled)) == 0  # nothing to be mistaken for
    history = torch.empty(0, 4)
    for filled in (4, 8, 10, 10):
        keys = F.normalize(torch.randn(4, 4))
        queue.enqueue(keys)
        history = torch.cat([history, keys])[-10:]
        assert int(queue.filled) == filled
        torch.testing.assert_close(
            queue_info_nce(query, key, queue.keys, filled=queue.filled), queue_info_nce(query, key, history)
        )


def test_a_generator_makes_the_random_start_reproducible():
    first, second = (MomentumQueue(5, 3, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first.keys, second.keys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 4), "size must be at least 0 and dim at least 1, got -1 and 4"),
        ((4, 0), "got 4 and 0"),
        ((4, 4, torch.int32), "dtype must be .*, got torch.int32"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MomentumQueue(*arguments)


def test_bad_start_and_keys():
    with pytest.raises(ValueError, match="start must be random or empty, got 'zeros'"):
        MomentumQueue(4, 4, start="zeros")
    with pytest.raises(ValueError, match=r"keys must have shape \(B, 4\), got \[2, 3\]"):
        MomentumQueue(8, 4).enqueue(torch.zeros(2, 3))


ENQUEUE_ON_A_RANK = """
import sys
import torch
import torch.distributed as dist
from crrl_fast.models import MomentumQueue

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
queue = MomentumQueue(7, 2, torch.bfloat16, generator=torch.Generator().manual_seed(0))
for step in range(3):
    queue.enqueue(torch.full((2, 2), 10.0 * step + rank, requires_grad=True))
torch.save(queue.state_dict(), f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def test_every_rank_holds_the_keys_of_all(tmp_path):
    command = [sys.executable, "-c", ENQUEUE_ON_A_RANK]
    ranks = [subprocess.Popen([*command, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    alone = MomentumQueue(7, 2, torch.bfloat16, generator=torch.Generator().manual_seed(0))
    for step in range(3):
        alone.enqueue(torch.tensor([0.0, 0, 1, 1])[:, None].expand(4, 2) + 10 * step)
    for rank in range(2):
        state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, expected in alone.state_dict().items():
            assert torch.equal(state[name], expected)


def test_enqueues_without_reading_back(cuda):
    queue = MomentumQueue(9, 4).to(cuda)
    keys = torch.randn(4, 4, device=cuda)
    torch.cuda.set_sync_debug_mode("error")
    try:
        queue.enqueue(keys)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(queue.keys[:4], keys)
