"""What turns clips into features, once it has been trained."""

from __future__ import annotations

from crrl_fast.models.concat import ConcatEncoder
from crrl_fast.models.encoder import MotionEncoder
from crrl_fast.models.feature import FeatureEncoder

ClipEncoder = MotionEncoder | FeatureEncoder | ConcatEncoder
"""Its ``feature_size`` is C; called with frames (B, T, D) and lengths (B) int64 it returns an ``Encoding``."""
