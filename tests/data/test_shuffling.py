import pytest
import torch

from crrl_fast.data.shuffling import bucketed_order


def spread(lengths, order, batch_size):
    """Return the mean over batches of the difference between their longest and shortest clip."""
    whole = len(order) // batch_size * batch_size
    batches = lengths[order[:whole]].view(-1, batch_size)
    return float((batches.amax(dim=1) - batches.amin(dim=1)).double().mean())


@pytest.mark.parametrize(
    ("clips", "batch_size", "buckets"), [(1000, 8, 10), (1003, 8, 10), (999, 16, 1000), (80, 8, 3)]
)
def test_batches_hold_clips_of_similar_length(clips, batch_size, buckets):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 300, (clips,), generator=generator)
    order = torch.randperm(clips, generator=generator)
    bucketed = bucketed_order(order, lengths, batch_size, buckets, generator)
    assert sorted(bucketed.tolist()) == list(range(clips))
    assert spread(lengths, bucketed, batch_size) < 0.5 * spread(lengths, order, batch_size)
    # What fills no batch is the end of the random order, of any length.
    rest = clips % batch_size
    assert bucketed[clips - rest :].tolist() == order[clips - rest :].tolist()


def test_each_run_of_batches_keeps_its_clips_and_batches_come_in_random_order():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.arange(64)
    order = torch.randperm(64, generator=generator)
    batches = bucketed_order(order, lengths, 4, 4, generator).view(-1, 4)
    runs = [set(run.tolist()) for run in order.split(16)]
    drawn = [next(i for i, run in enumerate(runs) if set(batch.tolist()) <= run) for batch in batches]
    assert sorted(drawn) == [run for run in range(4) for _ in range(4)]
    assert drawn != sorted(drawn)
    for run in range(4):  # sorted by length, here the clip's number, and then cut
        mine = sorted(sorted(batch.tolist()) for batch, of in zip(batches, drawn, strict=True) if of == run)
        assert [clip for batch in mine for clip in batch] == sorted(runs[run])


def test_an_order_smaller_than_a_batch_stays_as_it_is():
    order = torch.tensor([2, 0, 1])
    assert bucketed_order(order, torch.tensor([5, 9, 7]), 4, 2, torch.Generator()).tolist() == [2, 0, 1]
