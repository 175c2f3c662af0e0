import pytest

from crrl_fast.data.layouts import LAYOUTS, get_layout
from crrl_fast.errors import DataError


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_bones_form_a_tree_rooted_at_the_center(layout):
    parent = dict(layout.bones)
    assert len(layout.bones) == layout.num_joints - 1 == len(parent)
    for joint in range(layout.num_joints):
        steps = 0
        while joint != layout.center[0]:
            joint = parent[joint]
            steps += 1
            assert steps < layout.num_joints


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_mirror_pairs_left_and_right_and_keep_the_skeleton(layout):
    swap = {**dict(layout.mirror), **{right: left for left, right in layout.mirror}}
    for left, right in layout.mirror:
        assert layout.joints[left].replace("_left", "_right") == layout.joints[right]
    unpaired = [name for i, name in enumerate(layout.joints) if i not in swap]
    assert not any("left" in name or "right" in name for name in unpaired)
    mirrored = {(swap.get(child, child), swap.get(parent, parent)) for child, parent in layout.bones}
    assert mirrored == set(layout.bones)


def test_known_joint_numbers():
    # NTU RGB+D's paper numbers joints from 1: 1 base of the spine, 21 spine, 13 left hip, 17 right hip.
    ntu = LAYOUTS["ntu25"]
    assert (ntu.num_joints, ntu.center, ntu.spine_top, ntu.hips) == (25, (0,), (20,), (12, 16))
    kinect = LAYOUTS["kinect20"]
    assert (kinect.num_joints, kinect.center, kinect.spine_top, kinect.hips) == (20, (0,), (2,), (12, 16))


def test_unknown_layout_is_named():
    with pytest.raises(DataError, match=r"'kinect21'.*ntu25"):
        get_layout("kinect21")
