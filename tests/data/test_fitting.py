"""What a store still lacks before the encoder of a run may see it."""

import dataclasses

import numpy as np
import pytest

from crrl_fast.data.fitting import all_steps, fit_store, missing_steps
from crrl_fast.data.frame_format import FrameFormat
from crrl_fast.data.layouts import KINECT20
from crrl_fast.data.preprocess import (
    Bone,
    Center,
    Downsample,
    Motion,
    Resample,
    Rotate,
    Scale,
    Turn,
    describe_steps,
    parse_steps,
    write_steps,
)
from crrl_fast.data.store import Store
from crrl_fast.errors import DataError
from tests.conftest import random_walks

PREPARED = (Center(), Rotate(), Downsample(8))
OWN = (Downsample(6), Bone())
ALL = (*PREPARED, *OWN)


def store_of(steps, longest=12):
    return Store.from_arrays(random_walks(5, longest=longest), layout="kinect20", steps=steps)


@pytest.mark.parametrize(
    ("steps", "longest", "missing"),
    [
        ((), 12, ALL),
        ((), 7, (Center(), Rotate(), Downsample(6), Bone())),
        ((), 6, (Center(), Rotate(), Bone())),
        (PREPARED, 12, OWN),
        (PREPARED, 7, OWN),
        (PREPARED, 5, (Bone(),)),
        ((Center(), Rotate()), 12, (Downsample(8), *OWN)),
        ((Center(), Rotate()), 6, (Bone(),)),
        ((Center(), Rotate(), Downsample(60)), 12, (Downsample(8), *OWN)),
        ((*PREPARED, Downsample(6)), 12, (Bone(),)),
        (ALL, 12, ()),
        (ALL, 4, ()),
        ((Center(), Rotate(), Bone()), 5, ()),
        ((*PREPARED, Downsample(8), *OWN), 12, ()),
    ],
)
def test_what_is_recorded_is_not_done_again(steps, longest, missing):
    assert missing_steps(store_of(steps, longest), ALL, PREPARED) == missing


@pytest.mark.parametrize(
    "steps",
    [(Center(),), PREPARED, (*PREPARED, Downsample(6)), ALL, (Center(), Rotate())],
)
@pytest.mark.parametrize("longest", [5, 6, 7, 8, 9, 12])
def test_whatever_was_done_already_the_encoder_sees_the_same(steps, longest):
    raw = store_of((), longest)
    frames = FrameFormat(raw.layout, 1, tuple(describe_steps(PREPARED)))
    expected = raw.processed(ALL)
    found = fit_store(store_of(steps, longest), frames, ALL)
    np.testing.assert_allclose(found.frames, expected.frames, atol=1e-6)
    assert found.offsets.tolist() == expected.offsets.tolist()


@pytest.mark.parametrize(
    "steps",
    [
        (Rotate(), Center()),
        (Scale(),),
        (*PREPARED, Motion()),
        (Center(), Rotate(), Downsample(6), Bone()),  # of clips that had perhaps more than 8 frames
        (*ALL, Bone()),
        (Center(), Rotate(), Downsample(5)),
    ],
)
def test_what_was_done_in_another_way_is_refused_with_both_and_the_cure(steps):
    with pytest.raises(DataError) as error:
        missing_steps(store_of(steps), ALL, PREPARED)
    message = str(error.value)
    assert (
        "center,rotate,downsample=8,downsample=6,bone: prepare it with --preprocess center,rotate,downsample=8"
        in message
    )
    assert "\n" not in message
    assert f"was preprocessed with {write_steps(steps)}, but" in message


def test_resampled_clips_fit_a_run_on_such_and_may_have_had_any_length():
    steps = (Center(), Resample(16), Downsample(12))
    raw = store_of((), 10)
    frames = FrameFormat(raw.layout, 1, tuple(describe_steps(steps[:2])))
    whole = raw.processed(steps)
    assert whole.lengths.tolist() == [12] * len(raw)
    assert missing_steps(raw, steps, ()) == steps
    assert missing_steps(raw.processed(steps[:2]), steps, ()) == steps[2:]
    np.testing.assert_array_equal(fit_store(raw.processed(steps[:2]), frames, steps).frames, whole.frames)
    cut_first = (Center(), Downsample(16), Resample(16))
    with pytest.raises(DataError, match="was preprocessed with center,resample=16, but"):
        missing_steps(raw.processed(steps[:2]), cut_first, cut_first)


@pytest.mark.parametrize(
    ("trained", "recorded", "missing"),
    [
        ("center,downsample=8,rotate,bone", "none", "center,downsample=8,rotate,bone"),
        ("center,downsample=8,rotate,bone", "center", "downsample=8,rotate,bone"),
        ("center,downsample=8,rotate,bone", "center,downsample=8", "rotate,bone"),
        ("center,downsample=8,rotate,bone", "center,rotate", "downsample=8,bone"),
        ("center,downsample=8,rotate,bone", "center,rotate,downsample=8", "bone"),
        ("center,downsample=8,rotate,bone", "center,turn,downsample=8", "rotate,bone"),
        ("center,downsample=8,rotate,bone", "center,downsample=8,turn", "rotate,bone"),
        ("center,rotate,downsample=8,bone", "center,downsample=8", "rotate,bone"),
        ("center,rotate,downsample=8,downsample=6", "center,downsample=8", "downsample=6,rotate"),
        ("center,downsample=8,downsample=6,rotate", "center,rotate,downsample=8", "downsample=6"),
        ("center,turn,downsample=8,rotate", "center,rotate,downsample=8", "none"),
        ("center,downsample=8,turn", "center,turn,downsample=8", "none"),
        ("center,rotate,turn", "center,turn", "rotate,turn"),
        ("center,resample=8,rotate", "center,rotate,resample=8", "none"),
    ],
)
def test_whether_clips_were_turned_before_they_were_cut_does_not_matter(trained, recorded, missing):
    steps, frames = parse_steps(trained), FrameFormat(KINECT20, 1, ())
    store = store_of(parse_steps(recorded))
    assert write_steps(missing_steps(store, steps, ())) == missing
    seen = fit_store(store, frames, steps).frames
    np.testing.assert_allclose(seen, store_of(()).processed(steps).frames, atol=1e-6)


@pytest.mark.parametrize(
    ("trained", "recorded"),
    [
        ("center,downsample=8,turn", "center,rotate,downsample=8"),
        ("center,downsample=8", "center,rotate,downsample=8"),
        ("center,downsample=8,rotate", "rotate,center,downsample=8"),
        ("center,bone,rotate", "center,rotate,bone"),
    ],
)
def test_clips_that_were_turned_otherwise_are_refused(trained, recorded):
    message = f"was preprocessed with {recorded}, but .* with {trained}: prepare it with --preprocess center$"
    with pytest.raises(DataError, match=message):
        missing_steps(store_of(parse_steps(recorded)), parse_steps(trained), (Center(),))


def test_all_steps_name_none_that_would_change_nothing():
    frames = FrameFormat(KINECT20, 1, tuple(describe_steps(PREPARED)))
    assert all_steps(frames, (Downsample(8), Rotate(), Bone())) == (*PREPARED, Bone())
    assert all_steps(frames, (Downsample(6), Turn())) == (*PREPARED, Downsample(6), Turn())


def test_a_run_on_raw_clips_takes_no_prepared_ones():
    with pytest.raises(DataError, match="with center, but .* with downsample=60: prepare it with --preprocess none"):
        missing_steps(store_of((Center(),)), (Downsample(60),), ())


def test_other_layouts_and_more_bodies_are_refused():
    store = store_of(())
    renamed = dataclasses.replace(KINECT20, name="mine")
    with pytest.raises(DataError, match=r"layout 'kinect20' \(20 joints\), but .* 'mine' \(20 joints\)"):
        fit_store(store, FrameFormat(renamed, 1, ()), ())
    redefined = dataclasses.replace(KINECT20, bones=KINECT20.bones[:-1])
    with pytest.raises(DataError, match="another version of 'kinect20'"):
        fit_store(store, FrameFormat(redefined, 1, ()), ())
    two = Store.from_arrays([np.zeros((3, 2, 20, 3))], layout="kinect20")
    with pytest.raises(DataError, match="has 2 bodies a frame, but the run was trained on 1"):
        fit_store(two, FrameFormat(KINECT20, 1, ()), ())


def test_absent_bodies_are_added_to_a_store():
    store = store_of(())
    fitted = fit_store(store, FrameFormat(KINECT20, 3, ()), ())
    assert fitted.info.bodies == 3
    assert fitted.clip(1).shape == (12, 3, 20, 3)
    np.testing.assert_array_equal(fitted.clip(1)[:, :1], store.clip(1))
    assert not fitted.clip(1)[:, 1:].any()
