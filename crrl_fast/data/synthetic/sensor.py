"""The depth cameras: three poses around the performer, and the errors of their joint estimates.

Camera coordinates follow the Kinect's convention, in metres: x to the sensor's left, y up, z away from the sensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crrl_fast.data.layouts import NTU25
from crrl_fast.data.synthetic.body import JOINT, Array


@dataclass(frozen=True)
class Camera:
    """A camera that looks at the performer's place: azimuth and downward pitch in degrees, the rest in metres."""

    azimuth: float
    distance: float
    height: float
    pitch: float

    def view(self, world: Array) -> Array:
        """Turn (..., 3) room coordinates (y up, the middle camera on the z axis) into camera coordinates."""
        azimuth, pitch = np.deg2rad(self.azimuth), np.deg2rad(self.pitch)
        toward = np.array([np.sin(azimuth), 0.0, np.cos(azimuth)])
        level = np.array([0.0, 1.0, 0.0])
        ahead = -np.cos(pitch) * toward - np.sin(pitch) * level
        up = -np.sin(pitch) * toward + np.cos(pitch) * level
        axes = np.stack([np.cross(up, ahead), up, ahead])
        seen: Array = np.einsum("ij,...j->...i", axes, world - (self.distance * toward + self.height * level))
        return seen


CAMERAS = (Camera(-45, 3.1, 1.25, 5), Camera(0, 2.8, 1.05, 2), Camera(45, 3.4, 1.45, 8))

# Random error at 2 m in metres, per joint: the ends of the limbs are the worst, as in Wang et al., "Evaluation of Pose
# Tracking Accuracy in the First and Second Generations of Microsoft Kinect" (ICHI 2015).
_ERROR = np.full(NTU25.num_joints, 0.004)
for _part, _error in (("hand", 0.006), ("hand_tip", 0.009), ("thumb", 0.01), ("ankle", 0.006), ("foot", 0.008)):
    _ERROR[[JOINT[f"{_part}_left"], JOINT[f"{_part}_right"]]] = _error
_PERSISTENCE = 0.6  # share of a frame's error that carries over to the next
_OCCLUDED = 4.0  # factor on the error of a hidden joint
_GLITCH_RATE = 0.01  # per frame
_GLITCH = 0.15  # metres
_GLITCH_FRAMES = (2, 7)
_LIMB_ENDS = [
    *([JOINT[f"{part}_{side}"] for part in ("wrist", "hand", "hand_tip", "thumb")] for side in ("left", "right")),
    *([JOINT[f"{part}_{side}"] for part in ("ankle", "foot")] for side in ("left", "right")),
]
_TORSO_HALF_WIDTH = 0.13  # metres
_TORSO_DEPTH = 0.08


def occluded(coords: Array) -> npt.NDArray[np.bool_]:
    """Return (T, V): whether the torso hides a joint from the sensor, for (T, V, 3) camera coordinates."""
    base, middle, top = (coords[:, JOINT[name], None] for name in ("spine_base", "spine_mid", "spine_shoulder"))
    behind = coords[:, :, 2] > middle[..., 2] + _TORSO_DEPTH
    seen_at = coords / coords[:, :, 2:] * middle[..., 2:]
    beside = np.abs(seen_at[:, :, 0] - middle[..., 0]) > _TORSO_HALF_WIDTH
    beyond = (seen_at[:, :, 1] < base[..., 1]) | (seen_at[:, :, 1] > top[..., 1])
    return behind & ~beside & ~beyond


def measured(coords: Array, scale: float, rng: np.random.Generator) -> Array:
    """Return what the sensor reports of (T, V, 3) camera coordinates.

    Each joint carries a random error that persists over frames, grows with the square of the distance (Khoshelham and
    Elberink, Sensors 12, 2012) and is larger where the torso hides the joint; now and then the end of a limb jumps.

    Args:
        coords: (T, V, 3) metres.
        scale: factor on all errors; 0 reports the truth.
        rng: the source of the errors.
    """
    error = rng.standard_normal(coords.shape)
    for t in range(1, len(error)):
        error[t] = _PERSISTENCE * error[t - 1] + np.sqrt(1 - _PERSISTENCE**2) * error[t]
    size = _ERROR * (coords[:, :, 2] / 2) ** 2 * np.where(occluded(coords), _OCCLUDED, 1.0)
    error *= size[..., None]
    for start in np.flatnonzero(rng.random(len(coords)) < _GLITCH_RATE):
        frames = slice(start, start + rng.integers(*_GLITCH_FRAMES))
        error[frames, _LIMB_ENDS[rng.integers(len(_LIMB_ENDS))]] += _GLITCH * rng.standard_normal(3)
    return coords + scale * error
