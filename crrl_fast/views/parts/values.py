"""Parts that change each number by itself or by its neighbours in time: noise and blur."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from crrl_fast.views.draft import Draft
from crrl_fast.views.part import Kind, Part


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
        std = draft.constant((self.std,) * 3).expand(len(draft.lengths), 3)
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
