from collections import Counter

import numpy as np
import pytest

from crrl_fast.data.info import StoreInfo, parse_header
from crrl_fast.data.layouts import LAYOUTS, NTU25, Layout, get_layout, read_layout, resolve_layout
from crrl_fast.errors import DataError

OWN = {
    "joints": ["pelvis", "chest", "head", "hip_l", "hip_r"],
    "bones": [["chest", "pelvis"], ["head", "chest"], ["hip_l", "pelvis"], ["hip_r", "pelvis"]],
    "mirror": [["hip_l", "hip_r"]],
    "center": ["hip_l", "hip_r"],
    "spine_top": ["chest"],
    "hips": ["hip_l", "hip_r"],
}


def write_toml(path, **changes):
    values = {key: value for key, value in {**OWN, **changes}.items() if value is not None}
    path.write_text("\n".join(f"{key} = {value!r}" for key, value in values.items()))
    return path


def assert_bones_form_a_forest(layout):
    parent = dict(layout.bones)
    assert len(parent) == len(layout.bones)  # no joint has two parents
    for joint in range(layout.num_joints):
        steps = 0
        while joint in parent:
            joint = parent[joint]
            steps += 1
            assert steps < layout.num_joints


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_bones_form_one_tree(layout):
    assert_bones_form_a_forest(layout)
    assert len(layout.bones) == layout.num_joints - 1
    assert len(set(layout.joints)) == layout.num_joints


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_mirror_pairs_left_and_right_and_keeps_the_skeleton(layout):
    swap = {**dict(layout.mirror), **{right: left for left, right in layout.mirror}}
    assert len(swap) == 2 * len(layout.mirror)
    for left, right in layout.mirror:
        if layout.name == "cmu31":
            assert (layout.joints[left][0], layout.joints[left][1:]) == ("l", layout.joints[right][1:])
            assert layout.joints[right][0] == "r"
        else:
            assert layout.joints[left].replace("_left", "_right") == layout.joints[right] != layout.joints[left]
    unpaired = [name for i, name in enumerate(layout.joints) if i not in swap]
    assert not any("left" in name or "right" in name for name in unpaired)
    mirrored = {(swap.get(child, child), swap.get(parent, parent)) for child, parent in layout.bones}
    assert mirrored == set(layout.bones)
    for points in (layout.center, layout.spine_top, layout.hips):
        assert {swap.get(joint, joint) for joint in points} == set(points)
    assert swap[layout.hips[0]] == layout.hips[1]
    assert layout.hips in layout.mirror


def test_known_joint_numbers():
    # NTU RGB+D's paper numbers joints from 1: 1 base of the spine, 21 spine, 13 left hip, 17 right hip.
    ntu = LAYOUTS["ntu25"]
    assert (ntu.num_joints, ntu.center, ntu.spine_top, ntu.hips) == (25, (0,), (20,), (12, 16))
    kinect = LAYOUTS["kinect20"]
    assert (kinect.num_joints, kinect.center, kinect.spine_top, kinect.hips) == (20, (0,), (2,), (12, 16))
    # COCO: 5, 6 shoulders, 11, 12 hips. MediaPipe: 11, 12 and 23, 24. OpenPose: 1 neck, 8 right hip, 11 left hip.
    coco = LAYOUTS["coco17"]
    assert (coco.num_joints, coco.center, coco.spine_top, coco.hips) == (17, (11, 12), (5, 6), (11, 12))
    mediapipe = LAYOUTS["mediapipe33"]
    assert (mediapipe.num_joints, mediapipe.center, mediapipe.spine_top) == (33, (23, 24), (11, 12))
    openpose = LAYOUTS["openpose18"]
    assert (openpose.num_joints, openpose.center, openpose.spine_top, openpose.hips) == (18, (11, 8), (1,), (11, 8))


# The links of the networks that made these layouts common, as unordered pairs of joint numbers.
STGCN_OPENPOSE = (
    *((4, 3), (3, 2), (7, 6), (6, 5), (13, 12), (12, 11), (10, 9), (9, 8), (11, 5)),
    *((8, 2), (5, 1), (2, 1), (0, 1), (15, 0), (14, 0), (17, 15), (16, 14)),
)
PYSKL_COCO = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 5), (12, 6), (9, 7), (7, 5)),
    *((10, 8), (8, 6), (5, 0), (6, 0), (1, 0), (3, 1), (2, 0), (4, 2)),
)


@pytest.mark.parametrize(("name", "links"), [("openpose18", STGCN_OPENPOSE), ("coco17", PYSKL_COCO)])
def test_bones_are_those_of_the_networks(name, links):
    assert {frozenset(bone) for bone in LAYOUTS[name].bones} == {frozenset(link) for link in links}


def test_cmu_layout_is_that_of_the_real_skeleton(real_data):
    text = real_data("cmu/02/02.asf").read_text()
    names = [line.split()[1] for line in text.split(":bonedata")[1].splitlines() if line.strip().startswith("name ")]
    layout = LAYOUTS["cmu31"]
    assert layout.joints == ("root", *names)
    hierarchy = text.split(":hierarchy")[1].replace("begin", "").replace("end", "").strip().splitlines()
    pairs = {(child, line.split()[0]) for line in hierarchy for child in line.split()[1:]}
    assert {(layout.joints[child], layout.joints[parent]) for child, parent in layout.bones} == pairs


def test_center_and_spine_of_two_joints_are_their_mean():
    layout = LAYOUTS["coco17"]
    pose = np.random.default_rng(0).normal(size=(4, 17, 3))
    np.testing.assert_allclose(layout.center_of(pose), (pose[:, 11] + pose[:, 12]) / 2)
    np.testing.assert_allclose(layout.torso_of(pose), (pose[:, 5] + pose[:, 6] - pose[:, 11] - pose[:, 12]) / 2)


def test_unknown_layout_is_named():
    for find in (get_layout, resolve_layout):
        with pytest.raises(DataError, match=r"'kinect21'.*ntu25.*\.toml"):
            find("kinect21")
    assert resolve_layout("ntu25") is NTU25


def test_a_described_layout_is_read_and_kept_by_a_store(tmp_path):
    layout = resolve_layout(str(write_toml(tmp_path / "rig.toml")))
    assert layout == Layout(
        "rig",
        ("pelvis", "chest", "head", "hip_l", "hip_r"),
        ((1, 0), (2, 1), (3, 0), (4, 0)),
        ((3, 4),),
        (3, 4),
        (1,),
        (3, 4),
    )
    assert_bones_form_a_forest(layout)
    info = StoreInfo("own", layout, 1, (), ("a",))
    assert parse_header(tmp_path, info.to_header()).layout == layout
    assert read_layout(write_toml(tmp_path / "b.toml", name="mine", bones=[], mirror=[])).name == "mine"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hips": None}, "`hips` is missing"),
        ({"parents": []}, "unknown key `parents`"),
        ({"joints": []}, r"`joints`: \[\] is not a list of joint names"),
        ({"joints": ["a", 1]}, "`joints`: .* is not a list of joint names"),
        ({"joints": [*OWN["joints"], "head"]}, "`joints`: 'head' stands twice"),
        ({"bones": [["chest", "tail"]]}, "`bones`: 'tail' is not one of `joints`"),
        ({"bones": [["chest"]]}, r"`bones`: \['chest'\] is not a pair"),
        ({"bones": [["chest", "chest"]]}, "`bones`: .* is not a pair"),
        ({"bones": "chest"}, "`bones`: 'chest' is not a list"),
        ({"bones": [["head", "chest"], ["head", "pelvis"]]}, "`bones`: .* gives joint 'head' a second parent"),
        (
            {"bones": [["head", "chest"], ["chest", "pelvis"], ["pelvis", "head"]]},
            r"`bones`: \['pelvis', 'head'\] closes a cycle",
        ),
        ({"mirror": [["hip_l", "hip_r"], ["hip_r", "head"]]}, "`mirror`: .* pairs joint 'hip_r' a second time"),
        ({"center": []}, r"`center`: \[\] is not a list of joint names"),
        ({"center": "pelvis"}, "`center`: 'pelvis' is not a list of joint names"),
        ({"spine_top": ["neck"]}, "`spine_top`: 'neck' is not one of `joints`"),
        ({"hips": ["hip_l", "hip_l"]}, "`hips`: .* is not a pair"),
        ({"hips": [["hip_l"], "hip_r"]}, "`hips`: .* is not one of `joints`"),
        ({"name": "ntu25"}, "`name`: 'ntu25' is the name of a built-in layout"),
        ({"name": 3}, "`name`: 3 is not a name"),
    ],
)
def test_malformed_descriptions_name_file_key_and_value(tmp_path, changes, message):
    path = write_toml(tmp_path / "rig.toml", **changes)
    with pytest.raises(DataError, match=message) as caught:
        read_layout(path)
    assert str(path) in str(caught.value)


def test_descriptions_that_are_no_toml(tmp_path):
    path = tmp_path / "rig.toml"
    for content in (b"joints = [", b"\xff\xfe", b"x = " + b"[" * 5000):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot read this joint layout"):
            read_layout(path)
    with pytest.raises(DataError, match="cannot read this joint layout"):
        read_layout(tmp_path / "absent.toml")


def test_the_number_of_joints_tells_the_layouts_apart():
    assert set(Counter(layout.num_joints for layout in LAYOUTS.values()).values()) == {1}
