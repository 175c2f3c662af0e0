from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from crrl_fast.data.layouts import CMU31, KINECT20
from crrl_fast.data.preprocess import (
    DEFAULT_STEPS,
    Bone,
    Center,
    Downsample,
    Motion,
    Resample,
    Rotate,
    Scale,
    Turn,
    apply_steps,
    describe_steps,
    effective_steps,
    parse_steps,
    steps_from_record,
    write_steps,
)
from crrl_fast.errors import ConfigError, DataError
from tests.property_based import given, settings, st

V = KINECT20.num_joints


def packed_clips(lengths, bodies=1, seed=0):
    rng = np.random.default_rng(seed)
    frames = rng.normal(size=(sum(lengths), bodies, V, 3)) + np.array([1.0, 2.0, 3.0])
    return frames.astype(np.float32), np.concatenate([[0], np.cumsum(lengths)])


def pieces(frames, offsets):
    return [frames[a:b] for a, b in pairwise(offsets)]


def test_center_moves_each_clips_first_hip_to_the_origin():
    frames, offsets = packed_clips([3, 1, 5])
    centred, same = Center()(frames, offsets, KINECT20)
    assert np.array_equal(same, offsets)
    for before, after in zip(pieces(frames, offsets), pieces(centred, offsets), strict=True):
        np.testing.assert_allclose(after, before - before[0, 0, KINECT20.center[0]], atol=1e-6)
        assert np.all(after[0, 0, KINECT20.center[0]] == 0)


def test_absent_bodies_stay_zero_and_are_not_an_origin():
    frames, offsets = packed_clips([4, 2], bodies=2)
    frames[:, 1] = 0
    frames[0, 0] = 0  # the main body enters in the second frame
    out, _ = apply_steps(frames, offsets, KINECT20, [Center(), Rotate(), Scale()])
    assert not out[:, 1].any()
    assert not out[0].any()
    assert np.all(out[1, 0, KINECT20.center[0]] == 0)


def test_rotate_makes_spine_upright_and_hips_horizontal_and_keeps_distances():
    frames, offsets = packed_clips([3, 6, 1])
    centred, _ = Center()(frames, offsets, KINECT20)
    rotated, _ = Rotate()(centred, offsets, KINECT20)
    for before, after in zip(pieces(centred, offsets), pieces(rotated, offsets), strict=True):
        spine = after[0, 0, KINECT20.spine_top[0]] - after[0, 0, KINECT20.center[0]]
        hips = after[0, 0, KINECT20.hips[0]] - after[0, 0, KINECT20.hips[1]]
        np.testing.assert_allclose(spine / np.linalg.norm(spine), [0, 1, 0], atol=1e-5)
        assert hips[0] > 0
        assert abs(hips[2]) < 1e-5
        np.testing.assert_allclose(np.linalg.norm(after, axis=-1), np.linalg.norm(before, axis=-1), rtol=1e-4)
        # A rotation, not a reflection: it keeps the sign of triple products.
        a, b = before[0, 0, 3:6].astype(np.float64), after[0, 0, 3:6].astype(np.float64)
        np.testing.assert_allclose(np.linalg.det(a), np.linalg.det(b), rtol=1e-4)


def test_rotate_undoes_any_rigid_view_of_a_clip():
    frames, offsets = packed_clips([5])
    angle = 0.7
    view = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    seen = (frames @ view.T + [0.3, -0.2, 4.0]).astype(np.float32)
    steps = [Center(), Rotate()]
    one, _ = apply_steps(frames, offsets, KINECT20, steps)
    other, _ = apply_steps(seen, offsets, KINECT20, steps)
    np.testing.assert_allclose(one, other, atol=1e-5)


def seen_from(frames, angle):
    view = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return (frames @ view.T).astype(np.float32)


def sides_of(pose, layout, pairs):
    index = layout.joints.index
    return sum(pose[index(left)] - pose[index(right)] for left, right in pairs)


@pytest.mark.parametrize(
    ("layout", "pairs"),
    [
        (KINECT20, [("hip_left", "hip_right"), ("shoulder_left", "shoulder_right")]),
        (CMU31, [("lhipjoint", "rhipjoint"), ("lclavicle", "rclavicle")]),
        (
            replace(KINECT20, name="mine", joints=tuple(j.replace("shoulder", "arm") for j in KINECT20.joints)),
            [("hip_left", "hip_right")],
        ),
    ],
)
def test_turn_lays_the_sides_of_the_first_body_along_x_and_leaves_heights_alone(layout, pairs):
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(7, 2, layout.num_joints, 3)).astype(np.float32)
    frames[3, 0] = 0  # the main body of the second clip enters late
    frames[:3, 1] = 0
    offsets = np.array([0, 3, 7])
    turned, same = Turn()(frames, offsets, layout)
    assert same is offsets
    for first in (0, 4):
        x, _, z = sides_of(turned[first, 0], layout, pairs)
        assert x > 0
        assert abs(z) < 1e-5
        a, b = (f[first, 0, 3:6].astype(np.float64) for f in (frames, turned))
        np.testing.assert_allclose(np.linalg.det(a), np.linalg.det(b), rtol=1e-4)  # no reflection
    np.testing.assert_allclose(turned[..., 1], frames[..., 1], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(frames, axis=-1), atol=1e-5)
    assert not turned[3, 0].any()
    assert not turned[:3, 1].any()
    again, _ = Turn()(seen_from(frames, 2.3), offsets, layout)
    np.testing.assert_allclose(again, turned, atol=1e-5)


def test_turn_leaves_clips_alone_whose_sides_stand_upright():
    frames = np.zeros((3, 1, V, 3), np.float32)
    frames[1:, :, :, 1] = np.arange(V)
    out, _ = Turn()(frames, np.array([0, 1, 3]), KINECT20)
    np.testing.assert_array_equal(out, frames)


def test_degenerate_bodies_are_left_alone():
    frames = np.zeros((4, 1, V, 3), np.float32)
    frames[2:, :, :, 1] = np.arange(V)  # every joint on one line: no hip line across the spine
    offsets = np.array([0, 2, 4])
    out, _ = apply_steps(frames, offsets, KINECT20, [Rotate(), Scale()])
    np.testing.assert_array_equal(out[:2], frames[:2])
    np.testing.assert_allclose(out[2:] * 2, frames[2:])  # torso of length 2 became 1; no rotation
    assert np.isfinite(out).all()


def test_scale_makes_the_mean_torso_one_metre():
    frames, offsets = packed_clips([4, 2])
    scaled, _ = Scale()(frames, offsets, KINECT20)
    for clip in pieces(scaled, offsets):
        torso = np.linalg.norm(clip[:, 0, KINECT20.spine_top[0]] - clip[:, 0, KINECT20.center[0]], axis=-1)
        assert torso.mean() == pytest.approx(1, rel=1e-5)


@settings(max_examples=100)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=8), st.integers(1, 70))
def test_downsample_keeps_ends_order_and_short_clips(lengths, max_frames):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    frames = np.broadcast_to(np.arange(offsets[-1], dtype=np.float32)[:, None, None, None], (offsets[-1], 1, V, 3))
    kept, new_offsets = Downsample(max_frames)(frames, offsets, KINECT20)
    for i, length in enumerate(lengths):
        clip = kept[new_offsets[i] : new_offsets[i + 1], 0, 0, 0] - offsets[i]
        assert len(clip) == min(length, max_frames)
        if len(clip) > 1:
            exact = np.arange(len(clip)) * (length - 1) / (len(clip) - 1)
            assert np.abs(clip - exact).max() <= 0.5
            assert (clip[0], clip[-1]) == (0, length - 1)
        else:
            assert clip[0] == 0


@settings(max_examples=100)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=8), st.integers(1, 70))
def test_resample_gives_every_clip_as_many_frames(lengths, frames):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = np.arange(1, offsets[-1] + 1, dtype=np.float32) ** 2
    packed = np.broadcast_to(values[:, None, None, None], (offsets[-1], 1, V, 3))
    resampled, new_offsets = Resample(frames)(packed, offsets, KINECT20)
    assert resampled.dtype == np.float32
    assert np.diff(new_offsets).tolist() == [frames] * len(lengths)
    for i, (clip, length) in enumerate(zip(pieces(resampled, new_offsets), lengths, strict=True)):
        expected = np.interp(np.linspace(0, length - 1, frames), np.arange(length), values[offsets[i] : offsets[i + 1]])
        np.testing.assert_allclose(clip[:, 0, 3, 1], expected, rtol=1e-5)
        assert clip[0, 0, 0, 0] == values[offsets[i]]


def test_resample_makes_no_half_way_poses_of_a_body_that_comes_or_goes():
    frames, offsets = packed_clips([3], bodies=2)
    frames[2, 1] = 0
    out, _ = Resample(6)(frames, offsets, KINECT20)  # at 0, 0.4, 0.8, 1.2, 1.6 and 2
    np.testing.assert_allclose(out[1], 0.6 * frames[0] + 0.4 * frames[1], atol=1e-6)
    np.testing.assert_allclose(out[3, 0], 0.8 * frames[1, 0] + 0.2 * frames[2, 0], atol=1e-6)
    np.testing.assert_array_equal(out[3, 1], frames[1, 1])
    assert not out[4:, 1].any()


def test_motion_is_the_difference_to_the_next_frame_of_the_clip_and_body():
    frames, offsets = packed_clips([4, 1, 3])
    frames = np.concatenate([frames, frames + 1], axis=1)
    frames[2, 1] = 0  # the second body is absent in one frame: it neither appears nor vanishes at a speed
    motion, same = Motion()(frames, offsets, KINECT20)
    assert same is offsets
    for clip, moved in zip(pieces(frames, offsets), pieces(motion, offsets), strict=True):
        np.testing.assert_array_equal(moved[:-1, 0], clip[1:, 0] - clip[:-1, 0])
        np.testing.assert_array_equal(moved[-1], np.zeros_like(moved[-1]))
    np.testing.assert_array_equal(motion[[1, 2], 1], np.zeros_like(motion[:2, 1]))
    np.testing.assert_array_equal(motion[0, 1], frames[1, 1] - frames[0, 1])


def test_bones_add_up_to_the_joint_relative_to_the_root():
    frames, offsets = packed_clips([3, 2])
    bones, same = Bone()(frames, offsets, KINECT20)
    assert same is offsets
    parent = dict(KINECT20.bones)
    for joint in range(V):
        path, at = np.zeros_like(bones[:, :, 0]), joint
        while at in parent:
            path, at = path + bones[:, :, at], parent[at]
        np.testing.assert_allclose(path, frames[:, :, joint] - frames[:, :, at], atol=1e-5)
    root = KINECT20.joints.index("hip_center")
    np.testing.assert_array_equal(bones[:, :, root], np.zeros_like(bones[:, :, root]))


def test_steps_survive_text_and_record():
    steps = parse_steps("center, rotate,turn,scale,downsample=40,resample=30,motion,bone")
    assert steps == (Center(), Rotate(), Turn(), Scale(), Downsample(40), Resample(30), Motion(), Bone())
    assert steps_from_record(describe_steps(steps)) == steps
    assert write_steps(steps) == "center,rotate,turn,scale,downsample=40,resample=30,motion,bone"
    assert write_steps(()) == "none"
    assert parse_steps("center,downsample=60") == DEFAULT_STEPS
    assert parse_steps("none") == ()


@pytest.mark.parametrize(
    "text", ["centre", "downsample=x", "downsample=0", "center=3", "resample=0", "resample=10001", "turn=3"]
)
def test_unusable_steps_are_named(text):
    with pytest.raises(ConfigError, match=text.split("=")[0]):
        parse_steps(text)


@pytest.mark.parametrize("step", [Rotate(), Turn()])
def test_turning_before_and_after_down_sampling_gives_the_same_bits(step):
    frames, offsets = packed_clips([130, 61, 60, 7, 1], bodies=2)
    frames[130:135, 1] = 0
    first, lengths = apply_steps(frames, offsets, KINECT20, [Center(), step, Downsample(60)])
    last, same = apply_steps(frames, offsets, KINECT20, [Center(), Downsample(60), step])
    assert lengths.tolist() == same.tolist() == [0, 60, 120, 180, 187, 188]
    np.testing.assert_array_equal(first, last)
    assert np.abs(last - apply_steps(frames, offsets, KINECT20, DEFAULT_STEPS)[0]).max() > 0.1


@pytest.mark.parametrize(
    ("done", "steps", "effective"),
    [
        ("none", "rotate", "rotate"),
        ("center,rotate,downsample=60", "downsample=60,rotate,bone", "bone"),
        ("rotate,scale,resample=60,motion", "rotate", "none"),
        ("center,turn", "turn", "none"),
        ("center,turn", "rotate", "rotate"),
        ("center,rotate", "turn", "turn"),
        ("turn,rotate", "turn", "turn"),
        ("rotate,turn", "turn", "none"),
        ("rotate", "turn,center,turn,rotate", "turn,center,rotate"),
        ("none", "rotate,downsample=30,rotate", "rotate,downsample=30"),
    ],
)
def test_clips_are_not_turned_again_as_they_were_turned_last(done, steps, effective):
    assert write_steps(effective_steps(parse_steps(steps), 60, parse_steps(done))) == effective


def test_more_steps_than_anybody_needs_are_refused():
    with pytest.raises(ConfigError, match="101 preprocessing steps: at most 100"):
        parse_steps(",".join(["center"] * 101))
    assert len(steps_from_record([{"step": "center"}] * 100)) == 100
    with pytest.raises(DataError, match="101 preprocessing steps in the store's record"):
        steps_from_record([{"step": "center"}] * 101)


def test_unknown_recorded_step_is_refused():
    with pytest.raises(DataError, match="smooth"):
        steps_from_record([{"step": "smooth"}])
