import torch

from crrl_fast.data.batches import ResidentClips, resident_split


def test_a_batch_is_its_clips_padded_with_zeros(tiny_store, cpu):
    clips = ResidentClips(tiny_store, torch.tensor([5, 1, 0, 9]), tiny_store.frames)
    batch = clips.batch(torch.tensor([2, 1, 3]))
    assert batch.position.tolist() == [2, 1, 3]
    assert batch.lengths.tolist() == batch.host_lengths.tolist() == tiny_store.lengths[[0, 1, 9]].tolist()
    assert batch.labels.tolist() == tiny_store.labels[[0, 1, 9]].tolist()
    assert batch.coords.shape == (3, int(batch.lengths.max()), 60)
    for row, index in enumerate([0, 1, 9]):
        clip = tiny_store.clip(index).flatten(1)
        assert torch.equal(batch.coords[row, : len(clip)], clip)
        assert not batch.coords[row, len(clip) :].any()


def test_an_epoch_visits_every_clip_once_and_keeps_the_tail(tiny_store, cpu):
    train, test = resident_split(tiny_store, None, cpu)
    assert (len(train), len(test), train.width) == (16, 8, 60)
    batches = list(train.shuffled(5, torch.Generator().manual_seed(1)))
    assert [len(batch.host_lengths) for batch in batches] == [5, 5, 5, 1]
    visited = torch.cat([batch.position for batch in batches])
    assert sorted(visited.tolist()) == list(range(16))
    assert visited.tolist() != list(range(16))
    assert torch.cat([batch.position for batch in train.ordered(5)]).tolist() == list(range(16))


def test_shuffling_depends_on_the_generator_alone(tiny_store, cpu):
    train, _ = resident_split(tiny_store, None, cpu)

    def order(seed):
        generator = torch.Generator().manual_seed(seed)
        return [batch.position.tolist() for _ in range(2) for batch in train.shuffled(7, generator)]

    assert order(3) == order(3) != order(4)
    first, second = order(3)[:3], order(3)[3:]
    assert first != second
