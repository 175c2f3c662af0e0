"""Models: ragged GRU, encoder, decoder, projection head, momentum pair and queue."""

from crrl_fast.models.clip_encoder import ClipEncoder
from crrl_fast.models.concat import ConcatEncoder
from crrl_fast.models.decoder import SequenceDecoder
from crrl_fast.models.encoder import Encoding, MotionEncoder
from crrl_fast.models.feature import FeatureEncoder
from crrl_fast.models.head import mlp_head
from crrl_fast.models.momentum import frozen_copy, momentum_update
from crrl_fast.models.queue import MomentumQueue
from crrl_fast.models.ragged_gru import RaggedGRU
from crrl_fast.models.whitening import Whitening

__all__ = [
    "ClipEncoder",
    "ConcatEncoder",
    "Encoding",
    "FeatureEncoder",
    "MomentumQueue",
    "MotionEncoder",
    "RaggedGRU",
    "SequenceDecoder",
    "Whitening",
    "frozen_copy",
    "mlp_head",
    "momentum_update",
]
