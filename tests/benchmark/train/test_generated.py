import math

import pytest
import torch

from crrl_fast.benchmark.memory import peak_extra_bytes
from crrl_fast.benchmark.train.generated import (
    LONGEST,
    MEAN_FRAMES,
    NTU60_TRAINING_CLIPS,
    SHORTEST,
    clip_lengths,
    generated_store,
)


def test_lengths_are_those_of_ntu60():
    assert NTU60_TRAINING_CLIPS == 40_091
    lengths = clip_lengths(NTU60_TRAINING_CLIPS, torch.Generator().manual_seed(0)).double()
    assert lengths.mean().item() == pytest.approx(MEAN_FRAMES, rel=0.01)
    assert lengths.min() == SHORTEST
    assert lengths.max() <= LONGEST
    tenth, median, ninth = lengths.quantile(torch.tensor([0.1, 0.5, 0.9]).double()).tolist()
    assert 40 < tenth < 50
    assert 70 < median < 78
    assert 115 < ninth < 130


@pytest.fixture(scope="module")
def store():
    return generated_store("generated", 2500, 60, seed=0)


def test_a_store_of_the_size_asked_for(store):
    assert len(store) == 2500
    assert store.frames.shape == (int(store.offsets[-1]), 150)
    assert store.frames.dtype == torch.float32
    assert store.lengths.max() == 60
    assert store.lengths.min() >= SHORTEST
    assert store.lengths.double().mean().item() == pytest.approx(56.2, abs=0.5)
    assert store.info.preprocessing == ({"step": "downsample", "max_frames": 60},)
    train, test = store.split()
    assert (len(train), len(test)) == (2500, 0)
    assert store.num_classes == 60


def test_it_can_be_saved_and_opened(store, tmp_path):
    store.save(tmp_path / "generated.safetensors")
    opened = type(store).open(tmp_path / "generated.safetensors")
    assert opened.info == store.hashed().info
    assert torch.equal(opened.frames, store.frames)


def test_motion_is_smooth_and_of_one_body_but_in_mutual_actions(store):
    assert torch.isfinite(store.frames).all()
    assert store.frames.abs().max() <= 1.2
    for clip in (0, 48, 49, 59, 1500, 2499):
        bodies = store.clip(clip)
        moved = (bodies[1:] - bodies[:-1]).abs().amax(dim=(0, 2, 3))
        slowest_kept = LONGEST / 60 / 30  # seconds between the kept frames of the longest clip
        assert 0 < moved[0] < 0.2 * 2 * math.pi * 1.5 * slowest_kept
        assert bool(bodies[:, 1].any()) == (clip % 60 >= 49)


def test_a_seed_gives_the_same_clips_and_another_gives_others(store):
    again = generated_store("generated", 1100, 60, seed=7)
    same = generated_store("generated", 1100, 60, seed=7)
    assert torch.equal(again.frames, same.frames)
    assert torch.equal(again.offsets, same.offsets)
    assert not torch.equal(again.offsets, store.offsets[:1101])


def test_memory_beyond_the_store_does_not_grow_with_it():
    def beyond(clips):
        built = []
        peak = peak_extra_bytes(lambda: built.append(generated_store("g", clips, 60, 0)), torch.device("cpu"))
        return peak - built[0].frames.nbytes

    two, eight = beyond(2048), beyond(8192)
    assert two > 0
    assert eight < two + (1 << 20)
