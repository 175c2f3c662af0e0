"""torch.export: the encoder in plain PyTorch, as a graph that loads where crrl-fast is not installed."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from crrl_fast.export.parts import parts_of
from crrl_fast.models import ClipEncoder, ConcatEncoder, FeatureEncoder, RaggedGRU
from crrl_fast.padding import reverse_time, valid_frames
from crrl_fast.reference.gru import split_weights, summarize

METADATA_FILE = "metadata.json"
_ATEN_GRU = torch.ops.aten.gru.input


# torch.export learns the shapes of aten::gru from its decomposition, a loop over frames that fixes T. So the graph is
# drawn with a stand-in of the same schema, and its nodes are given to aten::gru when T is known to stay free.
@torch.library.custom_op(
    "crrl_fast::gru_stand_in", mutates_args=(), schema=str(_ATEN_GRU._schema).removeprefix("aten::gru.input")
)
def _stand_in(
    x: Tensor,
    state: Tensor,
    weights: list[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor]:
    return torch.gru(x, state, weights, has_biases, num_layers, dropout, train, bidirectional, batch_first)


@_stand_in.register_fake
def _(x: Tensor, state: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[0], x.shape[1], state.shape[2]), torch.empty_like(state)


class PlainEncoder(nn.RNNBase):
    """The clip feature of a MotionEncoder by ``torch.gru``, one dense call for each direction of each layer.

    Parameters and their names are those of ``nn.GRU``.

    Args:
        gru: the encoder's, whose weights are copied.
    """

    def __init__(self, gru: RaggedGRU) -> None:
        super().__init__(
            "GRU",
            gru.input_size,
            gru.hidden_size,
            gru.num_layers,
            bias=gru.bias,
            batch_first=True,
            bidirectional=gru.bidirectional,
        )
        self.load_state_dict(gru.state_dict())

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return the clip feature (B, C) of ``frames`` (B, T, D); ``lengths`` (B) int64 are clamped to [0, T]."""
        lengths = lengths.clamp(0, frames.shape[1])
        valid = valid_frames(lengths, frames.shape[1])[:, :, None]
        outputs = torch.where(valid, frames, 0)
        for cells in split_weights([*self.parameters()], self.num_layers, self.bidirectional):
            directions = [self._run(outputs, cells[0])]
            for cell in cells[1:]:
                directions.append(reverse_time(self._run(reverse_time(outputs, lengths), cell), lengths))
            outputs = torch.cat(directions, dim=2)
        return summarize(torch.where(valid, outputs, 0), lengths, False, frames.dtype).mean

    def _run(self, x: Tensor, cell: Sequence[Tensor]) -> Tensor:
        state = x.new_zeros(1, x.shape[0], self.hidden_size)
        outputs: Tensor = _stand_in(x, state, list(cell), self.bias, 1, 0.0, False, False, True)[0]
        return outputs


class PlainFeature(nn.Module):
    """The clip feature of a FeatureEncoder.

    Args:
        part: the encoder, which is copied.
    """

    parents: Tensor | None

    def __init__(self, part: FeatureEncoder) -> None:
        super().__init__()
        self.gru = PlainEncoder(part.encoder.gru)
        self.velocity_scale = part.velocity_scale
        self.register_buffer("parents", part.parents)
        self.whitening = copy.deepcopy(part.whitening)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return the clip feature (B, C); see ``PlainEncoder``."""
        features = [self.gru(frames, lengths)]
        if self.velocity_scale is not None:
            features.append(self.gru(_velocity(frames, lengths) * self.velocity_scale, lengths))
        if self.parents is not None:
            features.append(self.gru(frames - frames[:, :, self.parents], lengths))
        if self.whitening:
            parts = zip(self.whitening, features, strict=True)
            features = [(part - whitening.mean) @ whitening.matrix for whitening, part in parts]
        return torch.cat(features, dim=1)


def _velocity(frames: Tensor, lengths: Tensor) -> Tensor:
    """Return what ``motion_diff`` does, without a size that is 0 where there is one frame."""
    moves = valid_frames(lengths.clamp(0, frames.shape[1]) - 1, frames.shape[1])[:, :, None]
    return torch.where(moves, frames.roll(-1, dims=1) - frames, 0)


class PlainConcat(nn.Module):
    """The features of several encoders side by side.

    Args:
        parts: the encoders, which are copied.
    """

    def __init__(self, parts: Mapping[str, FeatureEncoder]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({name: _plain(part) for name, part in parts.items()})

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return the clip features (B, C); see ``PlainEncoder``."""
        return torch.cat([part(frames, lengths) for part in self.parts.values()], dim=1)


def _plain(part: FeatureEncoder) -> PlainEncoder | PlainFeature:
    """Return a part in plain PyTorch; one of coordinates alone, without whitening, keeps the names of ``nn.GRU``."""
    return PlainFeature(part) if part.whitening or part.streams > 1 else PlainEncoder(part.encoder.gru)


def trace(encoder: ClipEncoder, width: int) -> torch.export.ExportedProgram:
    """Return a program from frames (B, T, ``width``) float32 and lengths (B) int64 to the feature, B and T free."""
    parts = parts_of("encoder", encoder)
    plain = PlainConcat(parts) if isinstance(encoder, ConcatEncoder) else _plain(parts["encoder"])
    clips, frames = torch.export.Dim("clips", min=1), torch.export.Dim("frames", min=1)
    program = torch.export.export(
        plain.eval(),
        (torch.zeros(2, 3, width), torch.tensor([3, 2])),  # sizes of 1 would be taken for constants
        dynamic_shapes={"frames": {0: clips, 1: frames}, "lengths": {0: clips}},
    )
    for node in program.graph.nodes:
        if node.target is torch.ops.crrl_fast.gru_stand_in.default:
            node.target = _ATEN_GRU
        node.meta.pop("stack_trace", None)  # paths of this machine
    program.graph_module.recompile()
    return program


def write_program(path: Path, encoder: ClipEncoder, metadata: Mapping[str, Any]) -> None:
    """Write an archive for ``torch.export.load``, with the metadata as its extra file ``metadata.json``."""
    program = trace(encoder, metadata["input_size"])
    archive = io.BytesIO()
    torch.export.save(program, archive, extra_files={METADATA_FILE: json.dumps(metadata, indent=2)})
    path.write_bytes(archive.getvalue())


def read_program(path: Path) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the clip feature by the program of an archive."""
    module: nn.Module = torch.export.load(io.BytesIO(path.read_bytes())).module()
    return module
