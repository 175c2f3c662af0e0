"""The body: its segments, its joint angles, and forward kinematics on the 25-joint layout.

Body axes, in metres: x to the performer's left, y up, z forward; the origin is on the floor between the feet. All
rotations are products of 3x3 matrices formed without BLAS, so the bits do not depend on its threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crrl_fast.data.layouts import NTU25

Array = npt.NDArray[np.float64]

JOINT = {name: i for i, name in enumerate(NTU25.joints)}


class Arm(NamedTuple):
    """Angles of an arm in degrees; all zeros hangs straight down.

    The shoulder is stated as the International Society of Biomechanics does (Wu et al., J. Biomechanics 38, 2005):
    an elevation within a vertical plane, then a rotation about the upper arm.

    Attributes:
        lift: elevation of the upper arm, 0 down, 90 level, 180 up.
        out: the plane it is lifted in: 0 forward, 90 to its own side, negative across the chest.
        twist: rotation about the upper arm, outward positive.
        elbow: flexion of the elbow.
    """

    lift: float
    out: float
    twist: float
    elbow: float


class Leg(NamedTuple):
    """Angles of a leg in degrees: elevation of the thigh, its plane (as in `Arm`), flexion of the knee in it."""

    lift: float
    out: float
    knee: float


class Pose(NamedTuple):
    """A whole-body pose of a right-handed performer; angles in degrees.

    Attributes:
        hand: the arm that acts, the right one.
        off_hand: the other arm.
        leg: the leg that acts, the right one.
        off_leg: the other leg.
        bend: forward flexion of the spine.
        side: lateral flexion of the spine, to the left positive.
        turn: rotation of the spine, to the left positive.
        nod: flexion of the neck.
        rise: height of the feet above the floor in centimetres.
    """

    hand: Arm = Arm(6, 60, -10, 14)
    off_hand: Arm = Arm(6, 60, -10, 14)
    leg: Leg = Leg(2, 60, 2)
    off_leg: Leg = Leg(2, 60, 2)
    bend: float = 3
    side: float = 0
    turn: float = 0
    nod: float = 5
    rise: float = 0

    def flat(self) -> Array:
        """Return the 19 numbers of the pose as one vector."""
        return np.array([*self.hand, *self.off_hand, *self.leg, *self.off_leg, *self[4:]], dtype=np.float64)


STAND = Pose()
NUM_ANGLES = STAND.flat().size
HAND, OFF_HAND, LEG, OFF_LEG = slice(0, 4), slice(4, 8), slice(8, 11), slice(11, 14)
BEND, SIDE, TURN, NOD, RISE = range(14, 19)
HINGES = [HAND.stop - 1, OFF_HAND.stop - 1, LEG.stop - 1, OFF_LEG.stop - 1]  # elbows and knees

# Joint offsets from the parent in a standing body, as fractions of stature, left side only: segment lengths of
# Drillis and Contini as given by Winter, "Biomechanics and Motor Control of Human Movement" (figure 4.1), with the
# shoulders and hips moved in to where a Kinect reports them.
_OFFSETS: dict[str, tuple[float, float, float]] = {
    "spine_base": (0, 0, 0),
    "spine_mid": (0, 0.165, 0),
    "spine_shoulder": (0, 0.125, 0),
    "neck": (0, 0.045, 0),
    "head": (0, 0.080, 0.010),
    "shoulder_left": (0.100, -0.020, 0),
    "elbow_left": (0, -0.172, 0),
    "wrist_left": (0, -0.146, 0),
    "hand_left": (0, -0.045, 0),
    "hand_tip_left": (0, -0.050, 0),
    "thumb_left": (0, -0.030, 0.025),
    "hip_left": (0.048, -0.010, 0),
    "knee_left": (0, -0.245, 0),
    "ankle_left": (0, -0.236, 0),
    "foot_left": (0, -0.030, 0.075),
}
_ANKLES = [JOINT["ankle_left"], JOINT["ankle_right"]]
_LEG_CHAINS = [[JOINT[f"{part}_{side}"] for part in ("hip", "knee", "ankle")] for side in ("left", "right")]
_SUPPORT_BLEND = 0.02  # metres of height difference over which the weight moves from one foot to the other


def bone_offsets(stature: float, proportions: Array) -> Array:
    """Return each joint's offset from its parent, the bones of one performer.

    Args:
        stature: body height in metres.
        proportions: (V,) factor on each bone's length; a left and right pair takes that of the left.

    Returns:
        (V, 3) metres; the root's is zero.
    """
    offsets = np.zeros((NTU25.num_joints, 3))
    for name, offset in _OFFSETS.items():
        offsets[JOINT[name]] = np.array(offset) * stature * proportions[JOINT[name]]
    for left, right in NTU25.mirror:
        offsets[right] = offsets[left] * (-1, 1, 1)
    return offsets


def mirrored(coords: Array) -> Array:
    """Return (T, V, 3) body coordinates with left and right exchanged."""
    order = np.arange(NTU25.num_joints)
    for left, right in NTU25.mirror:
        order[[left, right]] = right, left
    return coords[:, order] * (-1, 1, 1)


def rotation(axis: int, degrees: Array) -> Array:
    """Return (T, 3, 3) rotations by ``degrees`` (T,) about coordinate axis 0, 1 or 2."""
    radians = np.deg2rad(degrees)
    matrix = np.zeros((*radians.shape, 3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[:, axis, axis] = 1
    matrix[:, i, i] = matrix[:, j, j] = np.cos(radians)
    matrix[:, j, i] = np.sin(radians)
    matrix[:, i, j] = -matrix[:, j, i]
    return matrix


def compose(*matrices: Array) -> Array:
    """Return the product of (T, 3, 3) matrices, left to right."""
    product = matrices[0]
    for matrix in matrices[1:]:
        product = np.einsum("tij,tjk->tik", product, matrix)
    return product


def _lifted(lift: Array, out: Array) -> Array:
    """Return (T, 3, 3) rotations that lift a hanging left limb in the plane ``out`` without turning it about itself."""
    return compose(rotation(1, out), rotation(0, -lift), rotation(1, -out))


def _bone_rotations(angles: Array) -> dict[int, Array]:
    """Return, by joint, the (T, 3, 3) rotation of the bone that ends there relative to its parent's bone."""
    spine = compose(
        rotation(2, -angles[:, SIDE] / 2), rotation(1, angles[:, TURN] / 2), rotation(0, angles[:, BEND] / 2)
    )
    turned = {JOINT["spine_mid"]: spine, JOINT["spine_shoulder"]: spine, JOINT["head"]: rotation(0, angles[:, NOD])}
    for side, sign, arm_slice, leg_slice in (("left", 1, OFF_HAND, OFF_LEG), ("right", -1, HAND, LEG)):
        lift, out, twist, elbow = angles[:, arm_slice].T
        turned[JOINT[f"elbow_{side}"]] = compose(_lifted(lift, sign * out), rotation(1, sign * twist))
        turned[JOINT[f"wrist_{side}"]] = rotation(0, -elbow)
        lift, out, knee = angles[:, leg_slice].T
        turned[JOINT[f"knee_{side}"]] = _lifted(lift, sign * out)
        turned[JOINT[f"ankle_{side}"]] = _lifted(-knee, sign * out)
        turned[JOINT[f"foot_{side}"]] = _lifted(knee - lift, sign * out)  # soles stay level
    return turned


def _depth_first() -> list[tuple[int, int]]:
    """Return the layout's (child, parent) bones, parents before children."""
    bones, known = [], set(NTU25.center)
    while len(known) < NTU25.num_joints:
        for child, parent in NTU25.bones:
            if parent in known and child not in known:
                bones.append((child, parent))
                known.add(child)
    return bones


_BONES = _depth_first()


def forward_kinematics(offsets: Array, angles: Array) -> Array:
    """Return the joint positions of a right-handed performer who stands on the floor.

    The hips are placed so that the supporting foot stays where it was in a standing body: the lower ankle, or a
    blend of both where their heights differ by a few centimetres.

    Args:
        offsets: (V, 3) bones, metres.
        angles: (T, 19) poses as `Pose.flat` lays them out.

    Returns:
        (T, V, 3) metres, body axes.
    """
    turned = _bone_rotations(angles)
    frames = {NTU25.center[0]: np.broadcast_to(np.eye(3), (len(angles), 3, 3))}
    coords = np.zeros((len(angles), NTU25.num_joints, 3))
    for joint, parent in _BONES:
        frames[joint] = compose(frames[parent], turned[joint]) if joint in turned else frames[parent]
        coords[:, joint] = coords[:, parent] + np.einsum("tij,j->ti", frames[joint], offsets[joint])
    ankles = coords[:, _ANKLES]
    standing = np.stack([offsets[chain].sum(axis=0) for chain in _LEG_CHAINS])
    standing[:, 1] = -offsets[JOINT["foot_left"], 1]
    height = ankles[:, :, 1] - ankles[:, :, 1].min(axis=1, keepdims=True)
    weight = np.exp(-height / _SUPPORT_BLEND)
    weight /= weight.sum(axis=1, keepdims=True)
    coords += np.einsum("tf,tfc->tc", weight, standing - ankles)[:, None]
    coords[:, :, 1] += angles[:, RISE, None] / 100
    return coords
