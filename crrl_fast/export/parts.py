"""The GRU encoders that an encoder consists of."""

from __future__ import annotations

from typing import cast

from crrl_fast.models import ClipEncoder, ConcatEncoder, FeatureEncoder, MotionEncoder


def parts_of(name: str, encoder: ClipEncoder) -> dict[str, MotionEncoder]:
    """Return the encoders whose features ``encoder`` puts side by side, by name; mostly itself alone, as ``name``."""
    if isinstance(encoder, ConcatEncoder):
        return cast(dict[str, MotionEncoder], dict(encoder.parts.items()))
    return {name: encoder.encoder if isinstance(encoder, FeatureEncoder) else encoder}
