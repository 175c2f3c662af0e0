"""Clips as images within the page."""

import base64
import io

import numpy as np
import pytest

from crrl_fast import Store
from crrl_fast.report import strips

pytest.importorskip("matplotlib")
image = pytest.importorskip("PIL.Image")


def picture(strip):
    head, _, data = strip.image.partition(",")
    assert head == "data:image/png;base64"
    return image.open(io.BytesIO(base64.b64decode(data)))


def test_strips_are_of_one_size_on_a_transparent_ground_and_in_the_sides_colours(tiny_store):
    drawn = [strips.draw(tiny_store, clip) for clip in (0, 1, 2)]
    assert [strip.frames for strip in drawn] == tiny_store.lengths[:3].tolist()
    assert len({picture(strip).size for strip in drawn}) == 1
    assert picture(drawn[0]).size == tuple(2 * side for side in drawn[0].size)
    pixels = np.asarray(picture(drawn[1]).convert("RGBA")).reshape(-1, 4)
    assert (pixels[:, 3] == 0).mean() > 0.3
    solid = pixels[pixels[:, 3] > 200].astype(int)
    assert (solid[:, 2] > solid[:, 0] + 60).any()  # left, blue
    assert (solid[:, 0] > solid[:, 2] + 60).any()  # right, orange


def test_a_clip_without_a_body_has_no_image():
    store = Store.from_arrays([np.zeros((3, 20, 3))], [0], layout="kinect20")
    assert strips.draw(store, 0).image is None


def test_an_unlabelled_clip_says_so(unlabelled):
    assert not strips.draw(unlabelled, 0).labelled
