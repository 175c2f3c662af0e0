import hashlib
from itertools import islice, pairwise

import numpy as np
import pytest

from crrl_fast.data.layouts import NTU25
from crrl_fast.data.preprocess import DEFAULT_STEPS, apply_steps
from crrl_fast.data.synthetic import (
    DEMO_CLASSES,
    DEMO_SPLITS,
    DEMO_SUBJECTS,
    demo_clips,
    demo_recording,
)
from crrl_fast.data.synthetic.actions import ACTIONS
from crrl_fast.data.synthetic.body import STAND, Leg, Pose, bone_offsets, forward_kinematics, mirrored
from crrl_fast.data.synthetic.sensor import CAMERAS, measured, occluded


@pytest.fixture(scope="module")
def clips():
    return list(demo_clips())


def digest(clips):
    sha = hashlib.sha256()
    for clip in clips:
        sha.update(clip.name.encode())
        sha.update(clip.coords.tobytes())
    return sha.hexdigest()


def bone_lengths(coords):
    child, parent = np.array(NTU25.bones).T
    return np.linalg.norm(coords[..., child, :] - coords[..., parent, :], axis=-1)


def test_same_seed_same_bits(clips):
    assert digest(demo_clips()) == digest(clips)


def test_a_clip_does_not_depend_on_how_many_are_drawn(clips):
    assert digest(islice(demo_clips(), 7)) == digest(clips[:7])


def test_another_seed_gives_another_set(clips):
    for ours, theirs in zip(clips[:48], demo_clips(1), strict=False):
        assert ours.coords.shape != theirs.coords.shape or not np.array_equal(ours.coords, theirs.coords)


def test_every_subject_does_every_action_before_every_camera(clips):
    assert len(DEMO_CLASSES) == len(set(DEMO_CLASSES)) >= 10
    assert DEMO_SUBJECTS >= 20
    assert len(CAMERAS) == 3
    seen = {(clip.subject, clip.label, clip.camera) for clip in clips}
    expected = {
        (subject, label, camera)
        for subject in range(1, DEMO_SUBJECTS + 1)
        for label in range(len(DEMO_CLASSES))
        for camera in (1, 2, 3)
    }
    assert seen == expected
    assert len(clips) == len(expected) == len({clip.name for clip in clips})


def test_clips_have_the_layout_and_plausible_coordinates(clips):
    assert demo_recording().layout is NTU25
    for clip in clips:
        assert clip.coords.dtype == np.float32
        assert clip.coords.shape[1:] == (1, 25, 3)
        assert np.isfinite(clip.coords).all()
        x, y, z = np.moveaxis(clip.coords, -1, 0)
        assert np.abs(x).max() < 2.5
        assert -2.5 < y.min() < y.max() < 2
        assert 0.5 < z.min() < z.max() < 6


def test_lengths_are_spread_over_20_to_120_frames(clips):
    lengths = np.array([len(clip.coords) for clip in clips])
    assert lengths.min() >= 20
    assert lengths.max() <= 120
    low, median, high = np.percentile(lengths, [5, 50, 95])
    assert low < 40 < median < 80 < high


def test_split_is_by_subject_and_both_parts_have_every_class(clips):
    split = DEMO_SPLITS["xsub"]
    assert split.field == "subject"
    train = [clip for clip in clips if clip.subject in split.train]
    test = [clip for clip in clips if clip.subject not in split.train]
    assert not {clip.subject for clip in train} & {clip.subject for clip in test}
    for part in (train, test):
        assert {clip.label for clip in part} == set(range(len(DEMO_CLASSES)))
        assert {clip.camera for clip in part} == {1, 2, 3}
    assert len(train) > 2 * len(test)


def test_without_noise_each_subject_has_constant_bones_of_its_own():
    lengths = {}
    for clip in islice(demo_clips(noise=0), 0, None, 5):
        lengths.setdefault(clip.subject, []).append(bone_lengths(clip.coords[:, 0].astype(np.float64)))
    assert len(lengths) == DEMO_SUBJECTS
    for rows in lengths.values():
        assert np.ptp(np.concatenate(rows), axis=0).max() < 5e-6  # the coordinates are float32 at about 3 m
    assert np.std([rows[0][0].sum() for rows in lengths.values()]) > 0.1


def test_noise_is_a_few_centimetres_at_most_and_scales(clips):
    for noisy, exact, half in islice(zip(clips, demo_clips(noise=0), demo_clips(noise=0.5), strict=True), 48):
        error = noisy.coords - exact.coords
        assert 0.003 < np.median(np.linalg.norm(error, axis=-1)) < 0.04
        np.testing.assert_allclose(half.coords - exact.coords, error / 2, atol=1e-6)


def test_mean_pose_does_not_give_the_action_away(clips):
    frames = np.concatenate([clip.coords for clip in clips])
    offsets = np.cumsum([0, *(len(clip.coords) for clip in clips)])
    frames, offsets = apply_steps(frames, offsets, NTU25, DEFAULT_STEPS)
    pose = np.stack([frames[a:b].mean(axis=0).ravel() for a, b in pairwise(offsets)])
    labels = np.array([clip.label for clip in clips])
    train = np.isin([clip.subject for clip in clips], DEMO_SPLITS["xsub"].train)
    distance = np.linalg.norm(pose[~train, None] - pose[train], axis=2)
    accuracy = (labels[train][distance.argmin(axis=1)] == labels[~train]).mean()
    assert 2 / len(DEMO_CLASSES) < accuracy < 0.5


def standing_body():
    return bone_offsets(1.75, np.ones(25))


def joint(coords, name):
    return coords[:, NTU25.joints.index(name)]


def test_a_standing_body_has_its_stature_and_stands_on_the_floor():
    coords = forward_kinematics(standing_body(), STAND.flat()[None])
    assert joint(coords, "head")[0, 1] == pytest.approx(0.95 * 1.75, abs=0.1)  # the head's centre, not its top
    assert joint(coords, "foot_left")[0, 1] == pytest.approx(0, abs=0.01)
    assert joint(coords, "hand_left")[0, 0] > 0 > joint(coords, "hand_right")[0, 0]
    assert joint(coords, "foot_left")[0, 2] > joint(coords, "ankle_left")[0, 2]


@pytest.mark.parametrize("lifted", ["leg", "off_leg"])
def test_on_one_leg_the_other_foot_keeps_its_place(lifted):
    poses = np.stack([STAND.flat(), STAND._replace(**{lifted: Leg(80, 0, 40)}).flat()])
    coords = forward_kinematics(standing_body(), poses)
    standing = "ankle_left" if lifted == "leg" else "ankle_right"
    np.testing.assert_allclose(*joint(coords, standing), atol=0.015)


def test_squatting_lowers_the_hips_between_level_feet():
    legs = Leg(80, 20, 100)
    stand, squat = forward_kinematics(standing_body(), np.stack([STAND.flat(), Pose(leg=legs, off_leg=legs).flat()]))
    hips, left, right = (NTU25.joints.index(name) for name in ("spine_base", "ankle_left", "ankle_right"))
    assert squat[hips, 1] < stand[hips, 1] - 0.3
    np.testing.assert_allclose((squat[left] + squat[right])[[0, 2]], 0, atol=0.01)
    for side in ("left", "right"):
        foot, ankle = (NTU25.joints.index(f"{part}_{side}") for part in ("foot", "ankle"))
        np.testing.assert_allclose(squat[foot] - squat[ankle], stand[foot] - stand[ankle], atol=1e-12)
        assert squat[foot, 1] == pytest.approx(0, abs=0.01)


def test_a_rise_lifts_the_whole_body():
    offsets = standing_body()
    low, high = (forward_kinematics(offsets, Pose(rise=rise).flat()[None]) for rise in (0, 30))
    np.testing.assert_allclose(high - low, np.broadcast_to([0, 0.3, 0], (1, 25, 3)), atol=1e-12)


def test_mirroring_exchanges_the_hands_and_keeps_the_bones():
    coords = forward_kinematics(standing_body(), ACTIONS[0].enter[0][1].flat()[None])
    other = mirrored(coords)
    np.testing.assert_allclose(joint(other, "hand_left"), joint(coords, "hand_right") * (-1, 1, 1))
    np.testing.assert_allclose(bone_lengths(other), bone_lengths(coords))
    np.testing.assert_array_equal(mirrored(other), coords)


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_camera_is_a_rigid_map_that_looks_at_the_performer(camera):
    points = np.random.default_rng(0).normal(size=(10, 3))
    seen = camera.view(points)
    np.testing.assert_allclose(
        np.linalg.norm(seen[:, None] - seen, axis=2), np.linalg.norm(points[:, None] - points, axis=2), atol=1e-12
    )
    x, y, z = camera.view(np.array([0.0, 1.0, 0.0]))
    assert abs(x) < 1e-12
    assert abs(y) < 0.4
    assert z == pytest.approx(camera.distance, rel=0.05)
    left, right, above = camera.view(np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 2.0, 0]]))
    assert left[0] < right[0]  # who faces the sensor has the right hand at the sensor's left, its +x
    assert above[1] > y


def test_the_torso_hides_a_hand_behind_it():
    coords = CAMERAS[1].view(forward_kinematics(standing_body(), STAND.flat()[None]))
    assert not occluded(coords).any()
    hand = NTU25.joints.index("hand_left")
    coords[:, hand] = coords[:, NTU25.joints.index("spine_mid")] + (0, 0, 0.2)
    assert occluded(coords)[0, hand]
    assert occluded(coords).sum() == 1


def test_errors_grow_with_the_distance():
    near = np.broadcast_to([0, 0, 2.0], (60, 25, 3))
    far = near * 2
    for seed in range(3):
        errors = [measured(coords, 1.0, np.random.default_rng(seed)) - coords for coords in (near, far)]
        assert np.median(np.abs(errors[1])) > 3 * np.median(np.abs(errors[0]))
