"""The parts that presets are composed of.

Each is an immutable description; all take ``p``, the probability that a view gets the part at all. Ranges are uniform.
"""

from crrl_fast.views.parts.axes import AxisMask, Rotation, Scale, Shear, Turn
from crrl_fast.views.parts.joints import JointCorruption, JointMask, OriginJoint, SpatialFlip
from crrl_fast.views.parts.time import Crop, CropResize, MirrorPaddedCrop, TempoCrop, TimeFlip
from crrl_fast.views.parts.values import Blur, Noise

__all__ = [
    "AxisMask",
    "Blur",
    "Crop",
    "CropResize",
    "JointCorruption",
    "JointMask",
    "MirrorPaddedCrop",
    "Noise",
    "OriginJoint",
    "Rotation",
    "Scale",
    "Shear",
    "SpatialFlip",
    "TempoCrop",
    "TimeFlip",
    "Turn",
]
