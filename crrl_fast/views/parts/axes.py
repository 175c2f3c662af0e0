"""Parts that multiply coordinates by a matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from crrl_fast.views.draft import Draft
from crrl_fast.views.part import Kind, Part


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
_FIXED = (((1, 0, 0), (0, 0, 0), (0, 0, 0)), ((0, 0, 0), (0, 1, 0), (0, 0, 0)), ((0, 0, 0), (0, 0, 0), (0, 0, 1)))
_COS = (((0, 0, 0), (0, 1, 0), (0, 0, 1)), ((1, 0, 0), (0, 0, 0), (0, 0, 1)), ((1, 0, 0), (0, 1, 0), (0, 0, 0)))
_SIN = (((0, 0, 0), (0, 0, 1), (0, -1, 0)), ((0, 0, -1), (0, 0, 0), (1, 0, 0)), ((0, 1, 0), (-1, 0, 0), (0, 0, 0)))


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
        degrees = draft.uniform(3) * torch.where(is_main, draft.constant(self.main), draft.constant(self.other))
        angle = (degrees * (math.pi / 180))[:, :, None, None]
        fixed, cos, sin = draft.constant((_FIXED, _COS, _SIN))
        x, y, z = (fixed + angle.cos() * cos + angle.sin() * sin).unbind(1)
        draft.multiply(z @ y @ x, gate)


@dataclass(frozen=True, kw_only=True)
class Turn(Part):
    """Turn about the vertical, y, by U(-``degrees``, ``degrees``), then about x by U(-``tilt``, ``tilt``).

    As if another camera had seen the clip: from another side, and a little higher or lower.
    """

    kind: ClassVar[Kind] = Kind.DENSE
    degrees: float = 30.0
    tilt: float = 10.0

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        for name in ("degrees", "tilt"):
            self.require(0 <= getattr(self, name) <= 180, f"{name} must be within [0, 180], got {getattr(self, name)}")

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw it."""
        most = draft.constant((self.degrees, self.tilt)) * (math.pi / 180)
        angles = (draft.uniform(2) * 2 - 1) * most
        (cos_y, cos_x), (sin_y, sin_x) = angles.cos().unbind(1), angles.sin().unbind(1)
        none, one = torch.zeros_like(cos_y), torch.ones_like(cos_y)
        turn = [cos_y, none, sin_y, none, one, none, -sin_y, none, cos_y]
        tilt = [one, none, none, none, cos_x, -sin_x, none, sin_x, cos_x]
        y, x = (torch.stack(numbers, dim=1).view(-1, 3, 3) for numbers in (turn, tilt))
        draft.multiply(x @ y, gate)


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
