import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from crrl_fast.data import packing, preparation
from crrl_fast.data.clip import Clip
from crrl_fast.data.info import Split
from crrl_fast.data.layouts import KINECT20
from crrl_fast.data.preprocess import DEFAULT_STEPS
from crrl_fast.data.recording import Recording
from crrl_fast.data.store import Store
from crrl_fast.data.writer import write_store
from crrl_fast.errors import DataError
from tests.conftest import random_walks

SPLITS = {"own": Split("fold", (0,))}


def recording(count=40, bad=()):
    clips = [
        Clip(f"c{i}", coords[:, None], label=i % 3, subject=i, fold=i % 2)
        for i, coords in enumerate(random_walks(count))
    ]
    for i in bad:
        clips[i].coords[0, 0, 4, 1] = np.nan
    return Recording(KINECT20, iter(clips), count, ("a", "b", "c"), 30.0, SPLITS)


@pytest.mark.parametrize("block_frames", [1, 50, 10**6])
def test_a_streamed_store_equals_one_made_in_memory(tmp_path, monkeypatch, block_frames):
    expected = Store.from_recording(recording(), dataset="walks", steps=DEFAULT_STEPS)
    monkeypatch.setattr(packing, "BLOCK_FRAMES", block_frames)
    info = write_store(tmp_path / "walks.safetensors", recording(), dataset="walks", steps=DEFAULT_STEPS)
    store = Store.open(tmp_path / "walks.safetensors")
    assert store.info == info == expected.info
    for name in ("frames", "offsets", "labels", "subject", "camera", "setup", "replication", "fold"):
        assert torch.equal(getattr(store, name), getattr(expected, name))
    assert [len(part) for part in store.split("own")] == [20, 20]
    assert [path.name for path in tmp_path.iterdir()] == ["walks.safetensors"]


def test_a_problem_ends_the_writing_and_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="'c7' has a value that is not finite"):
        write_store(tmp_path / "walks.safetensors", recording(bad=(7, 9)), dataset="walks")
    assert list(tmp_path.iterdir()) == []


def test_bad_clips_can_be_left_out_and_listed(tmp_path):
    findings = preparation.Findings()
    preparation.write(
        tmp_path / "walks.safetensors", recording(bad=(7, 9)), findings, dataset="walks", steps=(), skip_bad=True
    )
    assert [re.search(r"c\d", problem)[0] for problem in findings.problems] == ["c7", "c9"]
    assert (findings.taken, findings.seen) == (38, 40)
    assert len(Store.open(tmp_path / "walks.safetensors")) == 38


def test_checking_finds_every_problem():
    findings = preparation.Findings()
    clips = recording(bad=(1, 2, 39))
    preparation.check(clips, findings, dataset="walks")
    assert len(findings.problems) == 3
    assert findings.taken == 37


def test_a_layout_of_the_users_own_is_kept_in_the_store(tmp_path):
    layout = replace(KINECT20, name="mine", center=(12, 16))
    clips = replace(recording(), layout=layout)
    write_store(tmp_path / "mine.safetensors", clips, dataset="mine")
    assert Store.open(tmp_path / "mine.safetensors").layout == layout
