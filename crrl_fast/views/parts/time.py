"""Parts that choose frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from crrl_fast.views.draft import Draft
from crrl_fast.views.part import Kind, Part


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


@dataclass(frozen=True, kw_only=True)
class TempoCrop(Part):
    """Cut a U(``share``) part of the clip from a random place, and play it U(``tempo``) times as slowly.

    The view has as many frames as that takes, at least one and at most as many as the clip.

    Attributes:
        share: (low, high) of the clip's frames that are cut.
        tempo: (low, high) of the view's frames over those that were cut.
    """

    kind: ClassVar[Kind] = Kind.CROP
    share: tuple[float, float] = (0.5, 1.0)
    tempo: tuple[float, float] = (0.8, 1.2)

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        low, high = self.share
        self.require(0 < low <= high <= 1, f"share must rise within (0, 1], got {self.share}")
        slow, fast = self.tempo
        self.require(0 < slow <= fast < math.inf, f"tempo must rise from above 0, got {self.tempo}")

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw it."""
        clip = draft.clip_frames
        share, tempo = (draft.uniform() * (high - low) + low for low, high in (self.share, self.tempo))
        crop = torch.minimum((clip * share).round().long().clamp(min=1), clip)
        frames = torch.minimum((crop * tempo).round().long().clamp(min=1), clip)
        draft.start = draft.choose(gate, draft.integers(clip - crop + 1), draft.start)
        draft.span = draft.choose(gate, crop - 1, draft.span)
        draft.lengths = draft.choose(gate, frames, draft.lengths)
