"""The augmentations of published methods, each with its source's own ranges, probabilities and order.

``none``
    The clip as it is.
``aimclr``
    AimCLR's normal augmentation (Guo et al., AAAI 2022): mirror-padded temporal crop with n // 6 frames of padding at
    either end, then shear by U(-0.5, 0.5).
``aimclr-strong``
    AimCLR's extreme augmentation, in order: the crop and the shear of ``aimclr``; left and right joints swapped, p 0.5;
    rotation, one random axis by U(0, 30) degrees and the others by U(0, 1); time reversed, p 0.5; noise of std 0.01,
    p 0.5; temporal blur of 15 taps and sigma U(0.1, 2), p 0.5; one random axis set to zero, p 0.5.
``skeleton-contrast``
    Thoker et al., ACM MM 2021, and CMD (Mao et al., ECCV 2022): crop of floor(n * U(0.1, 1)) frames, at least 64 and at
    most n, resized to 64; then with equal chances shear by U(-1, 1), or a change of random joints (15 of 25): with
    equal chances all zero, or multiplied by one random matrix of U(-1, 1).
``as-cal``
    AS-CAL's best combination (Rao et al., Information Sciences 2021): joint 1 subtracted, time reversed, p 0.5, shear
    by U(-1, 1). ``as_cal`` combines its transforms by the names of its code.
``crrl``
    Ours, for the contrast of this package: a random half to whole of the clip, played 0.8 to 1.2 times as slowly, seen
    from up to 30 degrees to either side and 10 degrees higher or lower. It keeps left and right, and how fast limbs
    move, which tell actions apart.

Our blur divides by the sum of its weights inside the clip; ``compat=True`` leaves that out, as AimCLR and AS-CAL do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crrl_fast.data.layouts import Layout, get_layout
from crrl_fast.errors import ConfigError
from crrl_fast.views.compose import Compose, OneOf
from crrl_fast.views.draft import Draft
from crrl_fast.views.params import ViewParams
from crrl_fast.views.part import Part
from crrl_fast.views.parts import (
    AxisMask,
    Blur,
    CropResize,
    JointCorruption,
    JointMask,
    MirrorPaddedCrop,
    Noise,
    OriginJoint,
    Rotation,
    Shear,
    SpatialFlip,
    TempoCrop,
    TimeFlip,
    Turn,
)


def aimclr_strong(*, time_flip: bool = True) -> Compose:
    """Return ``aimclr-strong``, with or without its reversal of time."""
    before = (MirrorPaddedCrop(ratio=6), Shear(amplitude=0.5), SpatialFlip(p=0.5), Rotation(main=30, other=1))
    after = (Noise(std=0.01, p=0.5), Blur(sigma=(0.1, 2.0), size=15, p=0.5), AxisMask(p=0.5))
    return Compose((*before, TimeFlip(p=0.5), *after) if time_flip else (*before, *after))


AS_CAL: dict[str, Part] = {
    "subtract": OriginJoint(joint=1),
    "randomFlip": TimeFlip(p=0.5),
    "shear": Shear(amplitude=1.0),
    "rotate": Rotation(main=30, other=0),
    "zeroOutAxis": AxisMask(p=1.0),
    "zeroOutJoints": JointMask(share=(0.2, 0.6)),
    "gausNoise": Noise(std=0.05),
    "gausFilter": Blur(sigma=(0.1, 2.0), size=15, p=0.5),
}
"""AS-CAL's transforms by the names of its code. ``zeroOutJoints`` acts on every frame here, on some in AS-CAL."""


def as_cal(*names: str) -> Compose:
    """Return AS-CAL's transforms of those names in that order: ``as_cal("subtract", "randomFlip", "shear")``.

    Raises:
        ConfigError: an unknown name, or an order that a single pass cannot apply.
    """
    for name in names:
        if name not in AS_CAL:
            raise ConfigError(f"AS-CAL has no transform {name!r}; there are {', '.join(AS_CAL)}")
    return Compose(tuple(AS_CAL[name] for name in names))


PRESETS: dict[str, Compose] = {
    "none": Compose(()),
    "aimclr": Compose((MirrorPaddedCrop(ratio=6), Shear(amplitude=0.5))),
    "aimclr-strong": aimclr_strong(),
    "skeleton-contrast": Compose(
        (
            CropResize(frames=64, ratio=(0.1, 1.0), min_frames=64),
            OneOf((Shear(amplitude=1.0), OneOf((JointMask(share=(0.6, 0.6)), JointCorruption(share=(0.6, 0.6)))))),
        )
    ),
    "as-cal": as_cal("subtract", "randomFlip", "shear"),
    "crrl": Compose((TempoCrop(share=(0.5, 1.0), tempo=(0.8, 1.2)), Turn(degrees=30.0, tilt=10.0))),
}


def sample_view_params(
    preset: str | Part,
    lengths: Tensor,
    layout: str | Layout,
    generator: torch.Generator | None = None,
    *,
    compat: bool = False,
) -> ViewParams:
    """Draw the parameters of one view of each clip.

    Args:
        preset: a name of ``PRESETS``, or a composition of parts.
        lengths: (B) int64, frames of each clip, at least 1, on the device where the parameters should be. The values
            are not looked at, which on a GPU would cost a synchronisation.
        layout: the joint layout, or its name.
        generator: where random numbers come from, of any device; None: torch's own of the device of ``lengths``. The
            same generator state and device give the same parameters.
        compat: do not normalise the blur, as the code of AimCLR and AS-CAL.

    Returns:
        What ``skeleton_views`` takes, on the device of ``lengths``.

    Raises:
        ConfigError: an unknown preset.
        DataError: an unknown layout, or one without the origin joint.
        TypeError: lengths is not int64.
        ValueError: lengths has another shape.
    """
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise ConfigError(f"unknown view preset {preset!r}; there are {', '.join(PRESETS)}")
        preset = PRESETS[preset]
    if lengths.dtype != torch.int64:
        raise TypeError(f"sample_view_params: lengths must be int64, got {str(lengths.dtype).removeprefix('torch.')}")
    if lengths.dim() != 1:
        raise ValueError(f"sample_view_params: lengths must have shape [B], got {list(lengths.shape)}")
    draft = Draft(lengths, get_layout(layout) if isinstance(layout, str) else layout, generator)
    preset.draw(draft, None)
    return draft.finish(normalize_blur=not compat)
