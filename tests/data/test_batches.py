import pytest
import torch

from crrl_fast.data.batches import ResidentClips, resident_split
from crrl_fast.ops import motion_diff


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_is_its_clips_padded_with_zeros(tiny_store, device, dtype):
    frames = tiny_store.frames.to(device, dtype)
    clips = ResidentClips(tiny_store, torch.tensor([5, 1, 0, 9]), frames)
    lengths = tiny_store.lengths[[0, 1, 9]]
    batch = clips.batch(torch.tensor([2, 1, 3], device=device))
    assert batch.position.tolist() == [2, 1, 3]
    assert batch.lengths.tolist() == lengths.tolist()
    assert batch.labels.tolist() == tiny_store.labels[[0, 1, 9]].tolist()
    assert batch.coords.shape == batch.velocity.shape == (3, int(lengths.max()), 60)
    assert batch.coords.dtype == batch.velocity.dtype == dtype
    for row, index in enumerate([0, 1, 9]):
        clip = tiny_store.clip(index).flatten(1).to(device, dtype)
        assert torch.equal(batch.coords[row, : len(clip)], clip)
        assert torch.equal(batch.velocity[row, : len(clip) - 1], clip[1:] - clip[:-1])
        assert not batch.coords[row, len(clip) :].any()
        assert not batch.velocity[row, len(clip) - 1 :].any()
    assert torch.equal(batch.velocity, motion_diff(batch.coords, batch.lengths))


def test_padding_to_more_frames_adds_zeros(tiny_store):
    clips = ResidentClips(tiny_store, torch.arange(24), tiny_store.frames)
    position = torch.tensor([0, 7, 3])
    just, more = clips.batch(position), clips.batch(position, clips.longest + 5)
    frames = just.coords.shape[1]
    assert more.coords.shape == (3, clips.longest + 5, 60)
    for name in ("coords", "velocity"):
        assert torch.equal(getattr(more, name)[:, :frames], getattr(just, name))
        assert not getattr(more, name)[:, frames:].any()
    assert torch.equal(more.lengths, just.lengths)


@pytest.mark.parametrize("buckets", [0, 1, 2])
def test_an_epoch_visits_every_clip_once_and_keeps_the_tail(tiny_store, cpu, buckets):
    train, test = resident_split(tiny_store, None, cpu)
    assert (len(train), len(test), train.width) == (16, 8, 60)
    lengths = tiny_store.lengths[tiny_store.split()[0]]
    plan = list(train.shuffled(5, torch.Generator().manual_seed(1), buckets))
    assert [len(position) for position, _ in plan] == [5, 5, 5, 1]
    assert [frames for _, frames in plan] == [int(lengths[position].max()) for position, _ in plan]
    visited = torch.cat([position for position, _ in plan])
    assert sorted(visited.tolist()) == list(range(16))
    assert visited.tolist() != list(range(16))


@pytest.mark.parametrize("buckets", [0, 2])
def test_shuffling_depends_on_the_generator_alone(tiny_store, cpu, buckets):
    train, _ = resident_split(tiny_store, None, cpu)

    def order(seed):
        generator = torch.Generator().manual_seed(seed)
        return [position.tolist() for _ in range(2) for position, _ in train.shuffled(7, generator, buckets)]

    assert order(3) == order(3) != order(4)
    first, second = order(3)[:3], order(3)[3:]
    assert first != second


def test_by_length_visits_every_clip_from_the_shortest_to_the_longest(tiny_store):
    clips = ResidentClips(tiny_store, torch.arange(24), tiny_store.frames)
    plan = list(clips.by_length(7))
    visited = torch.cat([position for position, _ in plan])
    assert sorted(visited.tolist()) == list(range(24))
    lengths = tiny_store.lengths[visited]
    assert bool((lengths.diff() >= 0).all())
    assert [frames for _, frames in plan] == [int(part[-1]) for part in lengths.split(7)]
    nobody = ResidentClips(tiny_store, torch.arange(0), tiny_store.frames)
    assert not list(nobody.by_length(7))
