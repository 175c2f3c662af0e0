"""Which joint of one layout is which of another: one name for each point of a body."""

from __future__ import annotations

from crrl_fast.data.layouts.known import LAYOUTS
from crrl_fast.data.layouts.layout import Layout

SHOULDERS = ("shoulder_left", "shoulder_right")

# What a joint is, where it is not what it is called. The hip centre, the top of the spine and the hips stand in
# ``Layout``; other joints of the known layouts are called alike. Kinect's spine is the middle of the back, its hand the
# palm, its foot the front of the foot. A joint of CMU's is the far end of the bone it is named after: on the real
# skeletons that of `upperback` lies at two thirds of the torso, that of `lwrist` 9 cm from the wrist.
_CMU_SIDE = {
    "clavicle": "shoulder",
    "humerus": "elbow",
    "radius": "wrist",
    "wrist": "hand",
    "fingers": "hand_tip",
    "thumb": "thumb",
    "femur": "knee",
    "tibia": "ankle",
    "foot": "foot",
}
_SIDES = ("left", "right")
_NAMES: dict[str, dict[str, str]] = {
    "ntu25": {"spine_mid": "spine"},
    "cmu31": {
        "upperback": "spine",
        "lowerneck": "neck",
        **{f"{side[0]}{bone}": f"{point}_{side}" for side in _SIDES for bone, point in _CMU_SIDE.items()},
    },
    "mediapipe33": {f"foot_index_{side}": f"foot_{side}" for side in _SIDES},
}

# Points that a layout has through other joints alone, whose mean stands for them: the middle of the head lies between
# the ears, the palm behind the knuckles; and the other way round, what has no finer point than the head or the palm.
_HEAD: dict[str, tuple[str, ...]] = {"head": ("ear_left", "ear_right")}
_KINECT: dict[str, tuple[str, ...]] = {
    "nose": ("head",),
    **{f"{knuckle}_{side}": (f"hand_{side}",) for knuckle in ("index", "pinky") for side in _SIDES},
}
_DERIVED: dict[str, dict[str, tuple[str, ...]]] = {
    "ntu25": _KINECT,
    "kinect20": _KINECT,
    "cmu31": {
        "nose": ("head",),
        **{f"{knuckle}_{side}": (f"{side[0]}hand",) for knuckle in ("index", "pinky") for side in _SIDES},
    },
    "coco17": _HEAD,
    "mediapipe33": {**_HEAD, **{f"hand_{side}": (f"index_{side}", f"pinky_{side}") for side in _SIDES}},
    "openpose18": _HEAD,
}


def is_known(layout: Layout) -> bool:
    """Return whether ``layout`` is one of those known by name, and not the user's own."""
    return layout == LAYOUTS.get(layout.name)


def points_of_joints(layout: Layout) -> tuple[str, ...]:
    """Return for each joint the point of a body that it is; where nothing else is known, the point of its name."""
    names = _NAMES.get(layout.name, {}) if is_known(layout) else {}
    points = [names.get(joint, joint) for joint in layout.joints]
    for point, joints in _described(layout).items():
        if len(joints) == 1:
            points[joints[0]] = point
    return tuple(points)


def joints_of_points(layout: Layout) -> dict[str, tuple[int, ...]]:
    """Return the points of a body that ``layout`` has, each as the joints whose mean it is."""
    derived = _DERIVED[layout.name] if is_known(layout) else {}
    return {
        **{point: tuple(map(layout.joints.index, joints)) for point, joints in derived.items()},
        **{point: (joint,) for joint, point in enumerate(points_of_joints(layout))},
        **_described(layout),
    }


def sides(layout: Layout) -> dict[int, str]:
    """Return the side of each joint that is ``left`` or ``right``."""
    pairs = (*layout.mirror, layout.hips)
    return {joint: side for pair in pairs for joint, side in zip(pair, _SIDES, strict=True)}


def _described(layout: Layout) -> dict[str, tuple[int, ...]]:
    left, right = layout.hips
    return {
        "hip_center": layout.center,
        "spine_top": layout.spine_top,
        "hip_left": (left,),
        "hip_right": (right,),
    }
