"""The GRU encoders that an encoder consists of, each with what is done to its feature."""

from __future__ import annotations

from crrl_fast.models import ClipEncoder, ConcatEncoder, FeatureEncoder, MotionEncoder


def parts_of(name: str, encoder: ClipEncoder) -> dict[str, FeatureEncoder]:
    """Return the encoders whose features ``encoder`` puts side by side, by name; mostly itself alone, as ``name``.

    One that gives the mean of its outputs as it is comes as one of coordinates alone, without whitening.
    """
    parts = encoder.parts if isinstance(encoder, ConcatEncoder) else {name: encoder}
    return {part_name: _with_feature(part) for part_name, part in parts.items()}  # type: ignore[arg-type]


def _with_feature(part: MotionEncoder | FeatureEncoder) -> FeatureEncoder:
    return part if isinstance(part, FeatureEncoder) else FeatureEncoder(part, None, whitens=False)
