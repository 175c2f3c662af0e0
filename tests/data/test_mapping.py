import itertools

import numpy as np
import pytest

from crrl_fast.data import catalog
from crrl_fast.data.layouts import CMU31, COCO17, KINECT20, LAYOUTS, MEDIAPIPE33, NTU25, OPENPOSE18, Layout
from crrl_fast.data.layouts.mapping import map_joints
from crrl_fast.errors import DataError

PAIRS = list(itertools.permutations(LAYOUTS.values(), 2))
LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
CMU_LIMBS = dict(zip(LIMBS, ("clavicle", "humerus", "radius", "hipjoint", "femur", "tibia"), strict=True))
RIG = Layout(
    "rig", ("pelvis", "neck", "hip_left", "hip_right"), ((1, 0), (2, 0), (3, 0)), ((2, 3),), (0,), (1,), (2, 3)
)


def limb(layout, part, side):
    name = f"{side[0]}{CMU_LIMBS[part]}" if layout == CMU31 else f"{part}_{side}"
    return layout.joints.index(name)


def sides(layout):
    """Return -1 for each joint that is left by its name, 1 for right, 0 for neither."""
    if layout == CMU31:
        middle = {"root", "lowerback", "upperback", "thorax", "lowerneck", "upperneck", "head"}
        return [0 if name in middle else {"l": -1, "r": 1}[name[0]] for name in layout.joints]
    return [("right" in name) - ("left" in name) for name in layout.joints]


def distinct_pose(layout, frames=3, bodies=2):
    """Return random frames (F, M, V, 3) in which no two joints are alike."""
    return np.random.default_rng(0).normal(size=(frames, bodies, layout.num_joints, 3)).astype(np.float32)


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda layout: layout.name)
def test_limbs_keep_their_side_and_their_numbers(source, target):
    frames = distinct_pose(source)
    mapped = map_joints(source, target)(frames)
    assert mapped.shape == (3, 2, target.num_joints, 3)
    for part, side in itertools.product(LIMBS, ("left", "right")):
        np.testing.assert_array_equal(
            mapped[:, :, limb(target, part, side)], frames[:, :, limb(source, part, side)], err_msg=f"{part} {side}"
        )


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda layout: layout.name)
def test_no_joint_is_made_of_the_other_side(source, target):
    mapping = map_joints(source, target)
    joints = {**mapping.shared, **mapping.filled}
    assert sorted(joints) == list(range(target.num_joints))
    theirs, ours = sides(source), sides(target)
    for joint, weights in joints.items():
        assert sum(weights.values()) == pytest.approx(1)
        assert {theirs[part] * ours[joint] for part in weights} <= {0, 1}
        if ours[joint] == 0:  # the middle of the body stays in the middle
            assert sum(share * theirs[part] for part, share in weights.items()) == pytest.approx(0)


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda layout: layout.name)
def test_a_mirrored_body_is_mapped_to_the_mirrored_body(source, target):
    def mirrored(layout, frames):
        swap = np.arange(layout.num_joints)
        for left, right in layout.mirror:
            swap[[left, right]] = right, left
        return frames[:, :, swap] * np.float32([-1, 1, 1])

    mapping, frames = map_joints(source, target), distinct_pose(source)
    np.testing.assert_allclose(
        mapping(mirrored(source, frames)), mirrored(target, mapping(frames)), rtol=1e-5, atol=1e-6
    )


def test_what_known_layouts_share():
    # Counted by hand: joints of the second layout that the first one has.
    for source, target, count in (
        (KINECT20, NTU25, 20),  # all but the neck, hand tips and thumbs
        (NTU25, KINECT20, 20),
        (CMU31, NTU25, 25),
        (NTU25, CMU31, 25),  # all but lowerback, upperneck, hands, toes
        (COCO17, NTU25, 15),  # 12 of the limbs, head, both ends of the spine
        (NTU25, COCO17, 13),  # 12 of the limbs, the head for the nose
        (OPENPOSE18, COCO17, 17),
        (MEDIAPIPE33, COCO17, 17),
    ):
        assert len(map_joints(source, target).shared) == count, (source.name, target.name)


def test_points_without_a_joint_are_means_and_openposes_neck_is_the_top_of_the_spine():
    names, frames = COCO17.joints.index, distinct_pose(COCO17)
    mapped = map_joints(COCO17, NTU25)(frames)

    def mean(*parts):
        return np.mean([frames[:, :, names(part)] for part in parts], axis=0)

    for joint, parts in {
        "spine_base": ("hip_left", "hip_right"),
        "spine_shoulder": ("shoulder_left", "shoulder_right"),
        "head": ("ear_left", "ear_right"),
    }.items():
        np.testing.assert_allclose(mapped[:, :, NTU25.joints.index(joint)], mean(*parts), rtol=1e-6)
    record = map_joints(OPENPOSE18, NTU25).record()
    assert record["shared"]["spine_shoulder"] == ["neck"]
    assert "neck" in record["filled"]


def test_a_joint_that_is_lacking_is_filled_from_the_nearest_along_the_bones():
    record = map_joints(KINECT20, NTU25).record()
    assert (record["from"], record["to"]) == ("kinect20", "ntu25")
    assert record["filled"] == {
        "neck": ["head", "shoulder_center"],  # one bone from each
        "hand_tip_left": ["hand_left"],
        "thumb_left": ["wrist_left"],
        "hand_tip_right": ["hand_right"],
        "thumb_right": ["wrist_right"],
    }
    filled = map_joints(NTU25, COCO17).record()["filled"]
    assert filled == {f"{part}_{side}": ["head"] for part in ("eye", "ear") for side in ("left", "right")}


def test_absent_bodies_stay_absent():
    frames = distinct_pose(KINECT20)
    frames[:, 1] = 0
    assert not map_joints(KINECT20, NTU25)(frames)[:, 1].any()


def test_real_ucla_clips_there_and_back(real_data):
    recording, _ = catalog.open_recording("ucla", real_data("nw_ucla_all_sqe.zip"))
    clips = [clip.coords for clip in itertools.islice(recording.clips, 40)]
    frames = np.concatenate(clips)
    there = map_joints(KINECT20, NTU25)(frames)
    np.testing.assert_array_equal(there[:, :, NTU25.joints.index("hand_right")], frames[:, :, 11])
    np.testing.assert_array_equal(map_joints(NTU25, KINECT20)(there), frames)


def test_real_ntu_clips_keep_all_that_kinect_v1_has(real_data):
    recording, _ = catalog.open_recording("ntu60", real_data("ntu_raw"), report=lambda problem: None)
    frames = np.concatenate([clip.coords for clip in recording.clips])
    back = map_joints(KINECT20, NTU25)(map_joints(NTU25, KINECT20)(frames))
    lost = {"neck", "hand_tip_left", "thumb_left", "hand_tip_right", "thumb_right"}
    kept = [joint for joint, name in enumerate(NTU25.joints) if name not in lost]
    np.testing.assert_array_equal(back[:, :, kept], frames[:, :, kept])
    present = frames.any(axis=(2, 3))
    neck = NTU25.joints.index("neck")
    off = np.linalg.norm(back[:, :, neck] - frames[:, :, neck], axis=-1)[present]
    assert np.median(off) < 0.05  # metres: between the top of the spine and the head is where a neck is


def test_real_mocap_looks_like_a_kinect_body(real_data):
    recording, _ = catalog.open_recording("cmu", real_data("cmu"))
    frames = np.concatenate([clip.coords[:: len(clip.coords) // 20] for clip in recording.clips])
    pose = dict(zip(NTU25.joints, map_joints(CMU31, NTU25)(frames)[:, 0].swapaxes(0, 1), strict=True))

    def length(a, b):
        return np.median(np.linalg.norm(pose[a] - pose[b], axis=-1))

    # A person who walks, runs or jumps is upright: y rises from foot to head.
    heights = [
        np.median(pose[name][:, 1])
        for name in (
            "foot_left",
            "ankle_left",
            "knee_left",
            "spine_base",
            "spine_mid",
            "spine_shoulder",
            "neck",
            "head",
        )
    ]
    assert heights == sorted(heights)
    assert 1.2 < heights[-1] - heights[0] < 1.9  # metres
    # Left lies to the left of who looks along the toes: left x forward points up.
    across = pose["hip_left"] - pose["hip_right"]
    forward = sum(pose[f"foot_{side}"] - pose[f"ankle_{side}"] for side in ("left", "right"))
    assert np.median(np.cross(forward, across)[:, 1]) > 0
    for part in ("shoulder", "knee"):
        assert np.median(np.sum((pose[f"{part}_left"] - pose[f"{part}_right"]) * across, axis=-1)) > 0
    for side in ("left", "right"):
        from_elbow = [length(f"elbow_{side}", f"{part}_{side}") for part in ("wrist", "hand", "hand_tip")]
        assert from_elbow == sorted(from_elbow)
        assert 0.15 < length(f"shoulder_{side}", f"elbow_{side}") < 0.4
        assert 0.3 < length(f"hip_{side}", f"knee_{side}") < 0.55
        assert 0.05 < length(f"wrist_{side}", f"hand_{side}") < length(f"wrist_{side}", f"hand_tip_{side}") < 0.25


def test_layouts_of_the_users_own_share_joints_by_name():
    reordered = Layout("mine", NTU25.joints[::-1], (), (), (24,), (4,), (12, 8))
    frames = distinct_pose(NTU25)
    np.testing.assert_array_equal(map_joints(NTU25, reordered)(frames), frames[:, :, ::-1])
    np.testing.assert_array_equal(map_joints(reordered, NTU25)(frames), frames[:, :, ::-1])
    record = map_joints(NTU25, RIG).record()  # pelvis by being the centre, neck by its name
    assert record["shared"] == {
        "pelvis": ["spine_base"],
        "neck": ["neck"],
        "hip_left": ["hip_left"],
        "hip_right": ["hip_right"],
    }


def test_a_joint_that_no_bone_leads_to_is_put_at_the_hip_centre():
    loose = Layout("loose", (*KINECT20.joints, "sword"), KINECT20.bones, KINECT20.mirror, (0,), (2,), (12, 16))
    frames = distinct_pose(KINECT20)
    np.testing.assert_allclose(
        map_joints(KINECT20, loose)(frames)[:, :, 20], (frames[:, :, 12] + frames[:, :, 16]) / 2, rtol=1e-6
    )


def test_too_few_joints_and_swapped_sides_are_refused():
    with pytest.raises(
        DataError, match="rig and ntu25 share too few joints: .* nothing for shoulder_left, shoulder_right of ntu25"
    ):
        map_joints(RIG, NTU25)
    hand = Layout("hand", ("wrist", *(f"finger {i}" for i in range(9))), (), (), (0,), (1,), (2, 3))
    with pytest.raises(DataError, match="ntu25 and hand share too few joints.*finger 8 of hand"):
        map_joints(NTU25, hand)
    mirrored = Layout(
        "selfie", KINECT20.joints, KINECT20.bones, tuple((b, a) for a, b in KINECT20.mirror), (0,), (2,), (16, 12)
    )
    for pair in ((KINECT20, mirrored), (mirrored, NTU25)):
        with pytest.raises(DataError, match="'shoulder_left' of layout .* is (left|right), but 'shoulder_left'"):
            map_joints(*pair)
