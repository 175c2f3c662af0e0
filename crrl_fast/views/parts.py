"""The parts that presets are composed of.

Each is an immutable description; all take ``p``, the probability that a view gets the part at all. Ranges are uniform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from crrl_fast.errors import DataError
from crrl_fast.views.draft import Draft
from crrl_fast.views.part import Kind, Part

# ---- Time ----


@dataclass(frozen=True, kw_only=True)
class MirrorPaddedCrop(Part):
    """Pad the n frames by n // ``ratio`` mirrored ones at either end and cut n, from a random start.

    Source: ``temperal_crop`` of AimCLR (Guo et al., AAAI 2022), ratio 6.
    """

    kind: ClassVar[Kind] = Kind.CROP
    ratio: int = 6

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        self.require(self.ratio >= 1, f"ratio must be at least 1, got {self.ratio}")

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw it."""
        pad = draft.clip_frames // self.ratio
        draft.start = draft.choose(gate, draft.integers(2 * pad + 1) - pad, draft.start)


@dataclass(frozen=True, kw_only=True)
class Crop(Part):
    """Cut ``frames`` consecutive frames, from a random start; a shorter clip stays whole."""

    kind: ClassVar[Kind] = Kind.CROP
    frames: int

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        self.require(self.frames >= 1, f"frames must be at least 1, got {self.frames}")

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw it."""
        kept = draft.clip_frames.clamp(max=self.frames)
        draft.start = draft.choose(gate, draft.integers(draft.clip_frames - kept + 1), draft.start)
        draft.span = draft.choose(gate, kept - 1, draft.span)
        draft.lengths = draft.choose(gate, kept, draft.lengths)


@dataclass(frozen=True, kw_only=True)
class CropResize(Part):
    """Cut floor(n * U(``ratio``)) frames, at least ``min_frames`` and at most n, and resize them to ``frames``.

    Source: ``temporal_cropresize`` of skeleton-contrast (Thoker et al., ACM MM 2021) and CMD (Mao et al., ECCV 2022),
    with their ranges. They resize by ``interpolate(align_corners=False)``, which ends half a step inside the crop when
    it enlarges it; here the first and last frames of the crop are exactly those of the view.
    """

    kind: ClassVar[Kind] = Kind.CROP
    frames: int = 64
    ratio: tuple[float, float] = (0.1, 1.0)
    min_frames: int = 64

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        self.require(self.frames >= 1, f"frames must be at least 1, got {self.frames}")
        self.require(self.min_frames >= 1, f"min_frames must be at least 1, got {self.min_frames}")
        low, high = self.ratio
        self.require(0 < low <= high <= 1, f"ratio must rise within (0, 1], got {self.ratio}")

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw it."""
        low, high = self.ratio
        clip = draft.clip_frames
        share = draft.uniform() * (high - low) + low
        crop = torch.minimum((clip * share).long().clamp(min=self.min_frames), clip)
        draft.start = draft.choose(gate, draft.integers(clip - crop + 1), draft.start)
        draft.span = draft.choose(gate, crop - 1, draft.span)
        draft.lengths = draft.choose(gate, torch.full_like(clip, self.frames), draft.lengths)


@dataclass(frozen=True, kw_only=True)
class TimeFlip(Part):
    """Reverse time. Sources: AimCLR (p 0.5), AS-CAL's ``randomFlip`` (p 0.5)."""

    kind: ClassVar[Kind] = Kind.TIME_FLIP
    p: float = 0.5

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw it."""
        draft.start = draft.choose(gate, draft.start + draft.span, draft.start)
        draft.span = draft.choose(gate, -draft.span, draft.span)


# ---- Joints ----


@dataclass(frozen=True, kw_only=True)
class OriginJoint(Part):
    """Subtract a joint from all joints of its body, frame by frame.

    Source: ``subtract`` of AS-CAL (Rao et al., Information Sciences 2021), joint 1.

    Attributes:
        joint: its number or name in the layout; None draws one for each view.
    """

    kind: ClassVar[Kind] = Kind.ORIGIN
    joint: int | str | None = 1

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw it."""
        names, joint = draft.layout.joints, self.joint
        if joint is None:
            origin = draft.integers(len(names))
        else:
            number = names.index(joint) if joint in names else joint
            if not isinstance(number, int) or not 0 <= number < len(names):
                raise DataError(f"OriginJoint: layout {draft.layout.name!r} has no joint {joint!r}")
            origin = torch.full_like(draft.lengths, number)
        if draft.mirror is not None and draft.partner is not None:  # the joint that a flip before this put there
            origin = torch.where(draft.mirror, draft.partner[origin], origin)
        draft.origin = draft.choose(gate, origin, torch.full_like(origin, -1) if draft.origin is None else draft.origin)


@dataclass(frozen=True, kw_only=True)
class SpatialFlip(Part):
    """Swap left and right joints.

    Source: ``random_spatial_flip`` of AimCLR (p 0.5), which swaps joints and keeps their coordinates; so does this,
    unless ``negate`` names an axis (0, 1, 2) whose sign changes too, which makes it a reflection.
    """

    kind: ClassVar[Kind] = Kind.SWAP
    p: float = 0.5
    negate: int | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        self.require(self.negate in (None, 0, 1, 2), f"negate must be None, 0, 1 or 2, got {self.negate}")

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw it."""
        partner = list(range(draft.layout.num_joints))
        for left, right in draft.layout.mirror:
            partner[left], partner[right] = right, left
        draft.partner = torch.tensor(partner, device=draft.lengths.device)
        flip = torch.ones_like(draft.lengths, dtype=torch.bool) if gate is None else gate
        draft.mirror = flip if draft.mirror is None else flip ^ draft.mirror
        if draft.joints is not None:
            draft.joints = draft.choose(gate, draft.joints[:, draft.partner], draft.joints)
        if self.negate is not None:
            signs = draft.constant([-1.0 if axis == self.negate else 1.0 for axis in range(3)])
            draft.multiply(signs.diag().expand_as(draft.identity()), gate)


@dataclass(frozen=True, kw_only=True)
class _JointChoice(Part):
    """Random joints, the same on every body.

    Attributes:
        share: (low, high) of the joints; the count is a random integer from round(low * V) to round(high * V).
    """

    kind: ClassVar[Kind] = Kind.JOINTS
    share: tuple[float, float] = (0.6, 0.6)

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        low, high = self.share
        self.require(0 <= low <= high <= 1, f"share must rise within [0, 1], got {self.share}")

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw it."""
        fewest, most = (round(share * draft.layout.num_joints) for share in self.share)
        rank = draft.uniform(draft.layout.num_joints).argsort(dim=1)
        count: Tensor | int = most if fewest == most else fewest + draft.integers(most - fewest + 1)[:, None]
        joints = rank < count
        matrix = self.matrix(draft)
        nothing = torch.zeros_like(joints) if draft.joints is None else draft.joints
        none_yet = torch.zeros_like(matrix) if draft.joint_matrix is None else draft.joint_matrix
        draft.joints = draft.choose(gate, joints, nothing)
        draft.joint_matrix = draft.choose(gate, matrix, none_yet)

    def matrix(self, draft: Draft) -> Tensor:
        """Return (B, 3, 3): what becomes of the chosen joints."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class JointMask(_JointChoice):
    """Set random joints to zero, in every frame.

    Sources: ``joint_courruption`` of skeleton-contrast, 15 of 25; ``zeroOutJoints`` of AS-CAL, 5 to 15 of 25, which
    leaves them alone in some of the frames.
    """

    def matrix(self, draft: Draft) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(draft.identity())


@dataclass(frozen=True, kw_only=True)
class JointCorruption(_JointChoice):
    """Multiply random joints by one random matrix of U(-``amplitude``, ``amplitude``).

    Source: ``joint_courruption`` of skeleton-contrast, 15 of 25, amplitude 1.
    """

    amplitude: float = 1.0

    def matrix(self, draft: Draft) -> Tensor:
        """Draw the matrices."""
        matrix = (draft.uniform(3, 3) * 2 - 1) * self.amplitude
        return matrix if draft.matrix is None else matrix @ draft.matrix


# ---- Axes ----


@dataclass(frozen=True, kw_only=True)
class Shear(Part):
    """Multiply by a matrix of ones on the diagonal and U(-``amplitude``, ``amplitude``) in its six other places.

    Sources: AimCLR, amplitude 0.5; skeleton-contrast and AS-CAL, amplitude 1.
    """

    kind: ClassVar[Kind] = Kind.DENSE
    amplitude: float = 0.5

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw it."""
        off_diagonal = (draft.uniform(3, 3) * 2 - 1) * self.amplitude
        identity = draft.identity()
        draft.multiply(torch.where(identity == 1, identity, off_diagonal), gate)


# A turn about axis a is FIXED[a] + cos * COS[a] + sin * SIN[a], with the signs of the sources.
_FIXED = [[[1, 0, 0], [0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0], [0, 0, 1]]]
_COS = [[[0, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 0], [0, 0, 0]]]
_SIN = [[[0, 0, 0], [0, 0, 1], [0, -1, 0]], [[0, 0, -1], [0, 0, 0], [1, 0, 0]], [[0, 1, 0], [-1, 0, 0], [0, 0, 0]]]


@dataclass(frozen=True, kw_only=True)
class Rotation(Part):
    """Turn about x, then y, then z: one random axis by U(0, ``main``) degrees, the others by U(0, ``other``).

    Sources: ``random_rotate`` of AimCLR, 30 and 1; ``rotate`` of AS-CAL, 30 and 0.
    """

    kind: ClassVar[Kind] = Kind.DENSE
    main: float = 30.0
    other: float = 1.0

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw it."""
        axes = torch.arange(3, device=draft.lengths.device)
        is_main = draft.integers(3)[:, None] == axes
        degrees = draft.uniform(3) * torch.where(is_main, self.main, self.other)
        angle = (degrees * (math.pi / 180))[:, :, None, None]
        fixed, cos, sin = draft.constant([_FIXED, _COS, _SIN])
        x, y, z = (fixed + angle.cos() * cos + angle.sin() * sin).unbind(1)
        draft.multiply(z @ y @ x, gate)


@dataclass(frozen=True, kw_only=True)
class _Diagonal(Part):
    """A factor for each axis; noise drawn before it is scaled along."""

    kind: ClassVar[Kind] = Kind.DIAGONAL

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw it."""
        factors = self.factors(draft)
        draft.multiply(factors.diag_embed(), gate)
        if draft.noise_std is not None:
            draft.noise_std = draft.choose(gate, draft.noise_std * factors, draft.noise_std)

    def factors(self, draft: Draft) -> Tensor:
        """Return (B, 3)."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Scale(_Diagonal):
    """Multiply by U(``low``, ``high``): one factor, or with ``per_axis`` one for each axis."""

    low: float = 0.9
    high: float = 1.1
    per_axis: bool = False

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        self.require(0 <= self.low <= self.high, f"low and high must rise from 0, got {self.low} and {self.high}")

    def factors(self, draft: Draft) -> Tensor:
        """Draw the factors."""
        return (draft.uniform(3 if self.per_axis else 1) * (self.high - self.low) + self.low).expand(-1, 3)


@dataclass(frozen=True, kw_only=True)
class AxisMask(_Diagonal):
    """Set one random axis to zero. Sources: ``axis_mask`` of AimCLR (p 0.5), ``zeroOutAxis`` of AS-CAL (p 1)."""

    p: float = 0.5

    def factors(self, draft: Draft) -> Tensor:
        """Draw the axis."""
        axes = torch.arange(3, device=draft.lengths.device)
        return (draft.integers(3)[:, None] != axes).float()


# ---- Noise and blur ----


@dataclass(frozen=True, kw_only=True)
class Noise(Part):
    """Add Gaussian noise, independent for every number.

    Sources: ``gaus_noise`` of AimCLR, std 0.01, p 0.5; ``gausNoise`` of AS-CAL, std 0.05 in its code.

    Attributes:
        std: standard deviation, in the unit of the coordinates.
    """

    kind: ClassVar[Kind] = Kind.NOISE
    std: float = 0.01

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        self.require(self.std >= 0, f"std must be 0 or more, got {self.std}")

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw it."""
        std = draft.constant([self.std] * 3).expand(len(draft.lengths), 3)
        draft.noise_std = draft.choose(gate, std, torch.zeros_like(std) if draft.noise_std is None else draft.noise_std)


@dataclass(frozen=True, kw_only=True)
class Blur(Part):
    """Average over neighbouring frames with a Gaussian kernel of ``size`` taps and sigma U(``sigma``) frames.

    Sources: ``gaus_filter`` of AimCLR and AS-CAL, size 15, sigma 0.1 to 2, p 0.5. Their kernel is not normalised, which
    multiplies a clip by up to 5; ``compat=True`` of ``sample_view_params`` does the same.
    """

    kind: ClassVar[Kind] = Kind.BLUR
    sigma: tuple[float, float] = (0.1, 2.0)
    size: int = 15

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        low, high = self.sigma
        self.require(0 < low <= high, f"sigma must rise from above 0, got {self.sigma}")
        self.require(self.size % 2 == 1 and 1 <= self.size <= 63, f"size must be odd, 1 to 63, got {self.size}")

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw it."""
        low, high = self.sigma
        distance = torch.arange(self.size // 2 + 1, device=draft.lengths.device)
        sigma = draft.uniform(1) * (high - low) + low
        # Weights that float32 cannot tell from zero beside 1 are zero: the sum then ends earlier.
        weights = F.threshold(torch.exp(distance.square() / (-2 * sigma.square())), 2.0**-40, 0.0)
        before = (distance == 0).float().expand_as(weights) if draft.blur is None else draft.blur
        longest = max(weights.shape[1], before.shape[1])
        weights, before = (F.pad(taps, (0, longest - taps.shape[1])) for taps in (weights, before))
        draft.blur = draft.choose(gate, weights, before)
