"""Safetensors: the encoder's GRU, named as nn.GRU names it, and the whitening of its feature."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from crrl_fast.export.metadata import as_text
from crrl_fast.models import FeatureEncoder

WHITENING = "whitening."
"""What the names of the tensors begin with that are not the GRU's."""


def write_weights(path: Path, encoder: FeatureEncoder, metadata: Mapping[str, Any]) -> None:
    """Write a state dict that ``nn.GRU(..., bidirectional=True, batch_first=True)`` loads, but for the whitening.

    That is ``whitening.i.mean`` (C) and ``whitening.i.matrix`` (C, C) of stream i, where there is one.
    """
    state = {**encoder.encoder.gru.state_dict(), **encoder.whitening.state_dict(prefix=WHITENING)}
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    path.write_bytes(save(state, metadata=as_text(metadata)))


def read_weights(path: Path) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the clip feature by a plain ``nn.GRU`` and the file's tensors, for clips of at least one frame."""
    with safe_open(path, framework="pt") as file:
        says = {key: json.loads(text) for key, text in file.metadata().items()}
    tensors = load_file(path)
    gru = nn.GRU(says["input_size"], says["hidden_size"], says["layers"], bidirectional=True, batch_first=True)
    gru.load_state_dict({name: tensor for name, tensor in tensors.items() if not name.startswith(WHITENING)})

    def mean_output(frames: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(frames, lengths, batch_first=True, enforce_sorted=False)
        outputs, _ = pad_packed_sequence(gru(packed)[0], batch_first=True)
        return outputs.sum(dim=1) / lengths[:, None]

    def feature(frames: Tensor, lengths: Tensor) -> Tensor:
        features = [mean_output(frames, lengths)]
        if says["velocity_scale"] is not None:
            velocity = frames.diff(dim=1, append=frames[:, -1:])
            velocity[torch.arange(len(frames)), lengths - 1] = 0
            features.append(mean_output(velocity * says["velocity_scale"], lengths))
        if says["parents"] is not None:
            features.append(mean_output(frames - frames[:, :, says["parents"]], lengths))
        if says["whitening"]:
            features = [
                (values - tensors[f"{WHITENING}{stream}.mean"]) @ tensors[f"{WHITENING}{stream}.matrix"]
                for stream, values in enumerate(features)
            ]
        return torch.cat(features, dim=1)

    return feature
