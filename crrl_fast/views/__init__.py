"""Views: what a skeleton augmentation draws, the parts it is composed of, and the presets of published methods.

``crrl_fast.ops.skeleton_views`` applies what is drawn here.
"""

from crrl_fast.views.compose import Compose, OneOf
from crrl_fast.views.params import ViewParams
from crrl_fast.views.part import Part
from crrl_fast.views.parts import (
    AxisMask,
    Blur,
    Crop,
    CropResize,
    JointCorruption,
    JointMask,
    MirrorPaddedCrop,
    Noise,
    OriginJoint,
    Rotation,
    Scale,
    Shear,
    SpatialFlip,
    TempoCrop,
    TimeFlip,
    Turn,
)
from crrl_fast.views.presets import AS_CAL, PRESETS, aimclr_strong, as_cal, sample_view_params

__all__ = [
    "AS_CAL",
    "PRESETS",
    "AxisMask",
    "Blur",
    "Compose",
    "Crop",
    "CropResize",
    "JointCorruption",
    "JointMask",
    "MirrorPaddedCrop",
    "Noise",
    "OneOf",
    "OriginJoint",
    "Part",
    "Rotation",
    "Scale",
    "Shear",
    "SpatialFlip",
    "TempoCrop",
    "TimeFlip",
    "Turn",
    "ViewParams",
    "aimclr_strong",
    "as_cal",
    "sample_view_params",
]
