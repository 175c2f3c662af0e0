"""Safetensors: the encoder's GRU, named as nn.GRU names it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from crrl_fast.export.metadata import as_text
from crrl_fast.models import MotionEncoder


def write_weights(path: Path, encoder: MotionEncoder, metadata: Mapping[str, Any]) -> None:
    """Write a state dict that ``nn.GRU(..., bidirectional=True, batch_first=True)`` loads."""
    state = {name: tensor.contiguous() for name, tensor in encoder.gru.state_dict().items()}
    path.write_bytes(save(state, metadata=as_text(metadata)))


def read_weights(path: Path) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the clip feature by a plain ``nn.GRU`` with the file's weights, for clips of at least one frame."""
    with safe_open(path, framework="pt") as file:
        sizes = {key: json.loads(text) for key, text in file.metadata().items()}
    gru = nn.GRU(sizes["input_size"], sizes["hidden_size"], sizes["layers"], bidirectional=True, batch_first=True)
    gru.load_state_dict(load_file(path))

    def feature(frames: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(frames, lengths, batch_first=True, enforce_sorted=False)
        outputs, _ = pad_packed_sequence(gru(packed)[0], batch_first=True)
        return outputs.sum(dim=1) / lengths[:, None]

    return feature
