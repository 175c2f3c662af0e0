from dataclasses import replace

import numpy as np
import pytest
import torch

from crrl_fast.data import finite
from crrl_fast.data.finite import check_finite, not_finite
from crrl_fast.data.layouts import KINECT20
from crrl_fast.data.store import Store
from crrl_fast.errors import DataError


@pytest.mark.parametrize("block", [1, 60, 61, 1 << 22])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("clip", [0, 1, 7, 23])
def test_the_first_is_named(tiny_store, monkeypatch, block, value, clip):
    monkeypatch.setattr(finite, "_BLOCK", block)
    check_finite(tiny_store, "here")
    frames = tiny_store.frames.clone()
    last = int(tiny_store.lengths[clip]) - 1
    frames[tiny_store.offsets[clip + 1] - 1, 3 * 2 + 1] = value
    frames[tiny_store.offsets[clip + 1] :, 0] = torch.nan  # later ones do not matter
    name = tiny_store.layout.joints[2]
    message = rf"^here: clip {clip} \('clip {clip}'\) has a value .* frame {last}, body 0, joint '{name}' \({value}\): "
    with pytest.raises(DataError, match=message):
        check_finite(replace(tiny_store, frames=frames), "here")


def test_large_numbers_are_numbers(tiny_store):
    largest = torch.finfo(torch.float32).max
    check_finite(replace(tiny_store, frames=torch.full_like(tiny_store.frames, largest)), "here")


def test_the_body_is_named():
    coords = np.zeros((3, 2, 20, 3), np.float32)
    assert not_finite(coords, KINECT20) is None
    coords[2, 1, 19, 0] = np.inf
    assert not_finite(coords, KINECT20) == f"frame 2, body 1, joint {KINECT20.joints[19]!r} (inf)"
    with pytest.raises(DataError, match=r"clip 'clip 1' has a value that is not finite at frame 2, body 1"):
        Store.from_arrays([np.ones((1, 2, 20, 3)), coords], layout=KINECT20)
