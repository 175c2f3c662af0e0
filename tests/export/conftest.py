"""Runs with untrained checkpoints, and the features of nn.GRU, one clip at a time."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from crrl_fast import Recipe
from crrl_fast.data.frame_format import FrameFormat
from crrl_fast.data.layouts import get_layout
from crrl_fast.models import ClipEncoder, ConcatEncoder, FeatureEncoder, MotionEncoder
from crrl_fast.run import RunConfig, RunFolder
from tests.runs import save_encoder

STAGES = ("ser", "cml", "inf")
# Clips and frames, other than those that a program is traced with.
SIZES = [(1, 1), (1, 9), (5, 1), (6, 33)]
FEATURES = [
    {"feature": "both", "velocity_scale": 10.0},
    {"whitening": 0.5},
    {"feature": "both", "velocity_scale": 10.0, "whitening": 0.5},
    {"feature": "all", "velocity_scale": 10.0, "whitening": 0.5},
]


def make_run(
    path: Path, stages: tuple[str, ...] = STAGES, layers: int = 2, hidden: int = 8, **fields: object
) -> RunFolder:
    """Return a run whose stages have random weights of twice the usual spread; ``fields`` are others of its recipe."""
    recipe = Recipe(hidden_size=hidden, layers=layers, stream="motion", **fields)
    frames = FrameFormat(get_layout("kinect20"), 1, ({"step": "center"},))
    config = RunConfig(
        data="mine.safetensors",
        data_sha256="0" * 64,
        dataset="mine",
        frames=frames,
        split=None,
        stages=stages,
        recipe_name="paper",
        recipe=recipe,
        seed=0,
        device="cpu",
        threads=1,
    )
    run = RunFolder.create(path, config)
    for number, stage in enumerate(stages):
        torch.manual_seed(number)
        encoder = MotionEncoder(frames.width, hidden, layers, 0.2)
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.mul_(2)
        save_encoder(run, stage, encoder)
    return run


@pytest.fixture
def run(tmp_path):
    """Return a run of the stages ser, cml and inf."""
    return make_run(tmp_path / "run")


def ragged(clips: int, frames: int, width: int = 60) -> tuple[Tensor, Tensor]:
    """Return frames with NaN and infinities in the padding, and lengths with 0 and T among them."""
    torch.manual_seed(clips + frames)
    lengths = torch.randint(1, frames + 1, (clips,))
    lengths[0] = frames
    lengths[2:3] = 0
    x = torch.randn(clips, frames, width)
    garbage = torch.tensor([torch.nan, torch.inf, -torch.inf])[torch.randint(0, 3, x.shape)]
    return torch.where((torch.arange(frames) < lengths[:, None])[:, :, None], x, garbage), lengths


@torch.no_grad()
def expected_feature(encoder: ClipEncoder, x: Tensor, lengths: Tensor) -> Tensor:
    """Return the clip feature by nn.GRU on each clip by itself, cut to its valid frames."""
    if isinstance(encoder, ConcatEncoder):
        return torch.cat([expected_feature(part, x, lengths) for part in encoder.parts.values()], dim=1)
    if isinstance(encoder, FeatureEncoder):
        streams = [x]
        if encoder.velocity_scale is not None:
            streams.append(torch.zeros_like(x))
            for clip, length in enumerate(lengths.tolist()):
                streams[1][clip, : max(length - 1, 0)] = x[clip, :length].diff(dim=0) * encoder.velocity_scale
        if encoder.parents is not None:
            joints = x.unflatten(2, (-1, 3))
            streams.append(torch.zeros_like(x))
            for child, parent in get_layout("kinect20").bones:
                streams[-1].unflatten(2, (-1, 3))[:, :, child] = joints[:, :, child] - joints[:, :, parent]
        features = [expected_feature(encoder.encoder, frames, lengths) for frames in streams]
        if encoder.whitening:
            features = [(f - w.mean) @ w.matrix for f, w in zip(features, encoder.whitening, strict=True)]
        return torch.cat(features, dim=1)
    own = encoder.gru
    stock = nn.GRU(own.input_size, own.hidden_size, own.num_layers, bidirectional=True, batch_first=True)
    stock.load_state_dict(own.state_dict())
    features = torch.zeros(len(x), encoder.feature_size)
    for clip, length in enumerate(lengths.tolist()):
        if length:
            features[clip] = stock(x[clip : clip + 1, :length])[0].mean(dim=1)
    return features
