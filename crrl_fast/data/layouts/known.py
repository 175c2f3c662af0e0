"""The joint layouts that are known by name, each with its joints in the order of the files that use it.

Joints are called by one convention, ``part_left`` and ``part_right``, except where files name them (``cmu31``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crrl_fast.data.layouts.layout import Layout
from crrl_fast.errors import DataError


def _layout(
    name: str,
    parents: Mapping[str, str | None],
    *,
    mirror: Sequence[tuple[str, str]],
    center: Sequence[str],
    spine_top: Sequence[str],
    hips: tuple[str, str] = ("hip_left", "hip_right"),
) -> Layout:
    """Build a layout from ``joint: parent`` names in file order; ``mirror`` and ``hips`` come as (left, right)."""
    joints = tuple(parents)
    index = {joint: i for i, joint in enumerate(joints)}
    return Layout(
        name=name,
        joints=joints,
        bones=tuple((index[joint], index[parent]) for joint, parent in parents.items() if parent is not None),
        mirror=tuple((index[left], index[right]) for left, right in mirror),
        center=tuple(index[joint] for joint in center),
        spine_top=tuple(index[joint] for joint in spine_top),
        hips=(index[hips[0]], index[hips[1]]),
    )


def _sides(*parts: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"{part}_left", f"{part}_right") for part in parts)


_HIPS = ("hip_left", "hip_right")
_SHOULDERS = ("shoulder_left", "shoulder_right")
_KINECT_SIDES = _sides("shoulder", "elbow", "wrist", "hand", "hip", "knee", "ankle", "foot")

# Kinect v2, the joint order of NTU RGB+D and PKU-MMD.
NTU25 = _layout(
    "ntu25",
    {
        "spine_base": None,
        "spine_mid": "spine_base",
        "neck": "spine_shoulder",
        "head": "neck",
        "shoulder_left": "spine_shoulder",
        "elbow_left": "shoulder_left",
        "wrist_left": "elbow_left",
        "hand_left": "wrist_left",
        "shoulder_right": "spine_shoulder",
        "elbow_right": "shoulder_right",
        "wrist_right": "elbow_right",
        "hand_right": "wrist_right",
        "hip_left": "spine_base",
        "knee_left": "hip_left",
        "ankle_left": "knee_left",
        "foot_left": "ankle_left",
        "hip_right": "spine_base",
        "knee_right": "hip_right",
        "ankle_right": "knee_right",
        "foot_right": "ankle_right",
        "spine_shoulder": "spine_mid",
        "hand_tip_left": "hand_left",
        "thumb_left": "wrist_left",
        "hand_tip_right": "hand_right",
        "thumb_right": "wrist_right",
    },
    mirror=(*_KINECT_SIDES, *_sides("hand_tip", "thumb")),
    center=("spine_base",),
    spine_top=("spine_shoulder",),
)

# Kinect v1, the joint order of NW-UCLA.
KINECT20 = _layout(
    "kinect20",
    {
        "hip_center": None,
        "spine": "hip_center",
        "shoulder_center": "spine",
        "head": "shoulder_center",
        "shoulder_left": "shoulder_center",
        "elbow_left": "shoulder_left",
        "wrist_left": "elbow_left",
        "hand_left": "wrist_left",
        "shoulder_right": "shoulder_center",
        "elbow_right": "shoulder_right",
        "wrist_right": "elbow_right",
        "hand_right": "wrist_right",
        "hip_left": "hip_center",
        "knee_left": "hip_left",
        "ankle_left": "knee_left",
        "foot_left": "ankle_left",
        "hip_right": "hip_center",
        "knee_right": "hip_right",
        "ankle_right": "knee_right",
        "foot_right": "ankle_right",
    },
    mirror=_KINECT_SIDES,
    center=("hip_center",),
    spine_top=("shoulder_center",),
)

# CMU mocap: the root and the far ends of the 30 bones, in the order and by the names of the database's ASF files.
CMU31 = _layout(
    "cmu31",
    {
        "root": None,
        "lhipjoint": "root",
        "lfemur": "lhipjoint",
        "ltibia": "lfemur",
        "lfoot": "ltibia",
        "ltoes": "lfoot",
        "rhipjoint": "root",
        "rfemur": "rhipjoint",
        "rtibia": "rfemur",
        "rfoot": "rtibia",
        "rtoes": "rfoot",
        "lowerback": "root",
        "upperback": "lowerback",
        "thorax": "upperback",
        "lowerneck": "thorax",
        "upperneck": "lowerneck",
        "head": "upperneck",
        "lclavicle": "thorax",
        "lhumerus": "lclavicle",
        "lradius": "lhumerus",
        "lwrist": "lradius",
        "lhand": "lwrist",
        "lfingers": "lhand",
        "lthumb": "lwrist",
        "rclavicle": "thorax",
        "rhumerus": "rclavicle",
        "rradius": "rhumerus",
        "rwrist": "rradius",
        "rhand": "rwrist",
        "rfingers": "rhand",
        "rthumb": "rwrist",
    },
    mirror=tuple(
        (f"l{part}", f"r{part}")
        for part in (
            *("hipjoint", "femur", "tibia", "foot", "toes"),
            *("clavicle", "humerus", "radius", "wrist", "hand", "fingers", "thumb"),
        )
    ),
    center=("root",),
    spine_top=("thorax",),
    hips=("lhipjoint", "rhipjoint"),
)

# The three layouts of image detectors have neither a hip centre nor, but for OpenPose's neck, a point between the
# shoulders: the mean of both sides stands in. Their bones are the tree from the nose (OpenPose: neck) that skeleton
# networks use (ST-GCN, PYSKL); the detectors' own drawings close loops round the trunk.
COCO17 = _layout(
    "coco17",
    {
        "nose": None,
        "eye_left": "nose",
        "eye_right": "nose",
        "ear_left": "eye_left",
        "ear_right": "eye_right",
        "shoulder_left": "nose",
        "shoulder_right": "nose",
        "elbow_left": "shoulder_left",
        "elbow_right": "shoulder_right",
        "wrist_left": "elbow_left",
        "wrist_right": "elbow_right",
        "hip_left": "shoulder_left",
        "hip_right": "shoulder_right",
        "knee_left": "hip_left",
        "knee_right": "hip_right",
        "ankle_left": "knee_left",
        "ankle_right": "knee_right",
    },
    mirror=_sides("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"),
    center=_HIPS,
    spine_top=_SHOULDERS,
)

# MediaPipe Pose (BlazePose), its 33 landmarks.
MEDIAPIPE33 = _layout(
    "mediapipe33",
    {
        "nose": None,
        "eye_inner_left": "nose",
        "eye_left": "eye_inner_left",
        "eye_outer_left": "eye_left",
        "eye_inner_right": "nose",
        "eye_right": "eye_inner_right",
        "eye_outer_right": "eye_right",
        "ear_left": "eye_outer_left",
        "ear_right": "eye_outer_right",
        "mouth_left": "nose",
        "mouth_right": "nose",
        "shoulder_left": "nose",
        "shoulder_right": "nose",
        "elbow_left": "shoulder_left",
        "elbow_right": "shoulder_right",
        "wrist_left": "elbow_left",
        "wrist_right": "elbow_right",
        "pinky_left": "wrist_left",
        "pinky_right": "wrist_right",
        "index_left": "wrist_left",
        "index_right": "wrist_right",
        "thumb_left": "wrist_left",
        "thumb_right": "wrist_right",
        "hip_left": "shoulder_left",
        "hip_right": "shoulder_right",
        "knee_left": "hip_left",
        "knee_right": "hip_right",
        "ankle_left": "knee_left",
        "ankle_right": "knee_right",
        "heel_left": "ankle_left",
        "heel_right": "ankle_right",
        "foot_index_left": "ankle_left",
        "foot_index_right": "ankle_right",
    },
    mirror=_sides(
        *("eye_inner", "eye", "eye_outer", "ear", "mouth", "shoulder", "elbow", "wrist", "pinky", "index", "thumb"),
        *("hip", "knee", "ankle", "heel", "foot_index"),
    ),
    center=_HIPS,
    spine_top=_SHOULDERS,
)

# OpenPose's COCO model with 18 joints, as in the Kinetics skeletons of ST-GCN.
OPENPOSE18 = _layout(
    "openpose18",
    {
        "nose": "neck",
        "neck": None,
        "shoulder_right": "neck",
        "elbow_right": "shoulder_right",
        "wrist_right": "elbow_right",
        "shoulder_left": "neck",
        "elbow_left": "shoulder_left",
        "wrist_left": "elbow_left",
        "hip_right": "shoulder_right",
        "knee_right": "hip_right",
        "ankle_right": "knee_right",
        "hip_left": "shoulder_left",
        "knee_left": "hip_left",
        "ankle_left": "knee_left",
        "eye_right": "nose",
        "eye_left": "nose",
        "ear_right": "eye_right",
        "ear_left": "eye_left",
    },
    mirror=_sides("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "eye", "ear"),
    center=_HIPS,
    spine_top=("neck",),
)

LAYOUTS: dict[str, Layout] = {
    layout.name: layout for layout in (NTU25, KINECT20, CMU31, COCO17, MEDIAPIPE33, OPENPOSE18)
}


def get_layout(name: str) -> Layout:
    """Return the layout called ``name``.

    Raises:
        DataError: no layout has that name.
    """
    if name not in LAYOUTS:
        raise DataError(
            f"unknown joint layout {name!r}: choose one of {', '.join(LAYOUTS)}, or describe yours in a .toml file"
        )
    return LAYOUTS[name]
