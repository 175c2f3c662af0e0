"""A store of the size and the lengths of NTU-60's x-sub training part, with cheap smooth motion in it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from crrl_fast.data.clip import UNKNOWN
from crrl_fast.data.info import StoreInfo
from crrl_fast.data.layouts import NTU25
from crrl_fast.data.preprocess import Downsample, describe_steps
from crrl_fast.data.store import Store

NTU60_TRAINING_CLIPS = 40_091

CLASSES, FIRST_MUTUAL_CLASS = 60, 49
"""Classes from A050 on are of two people; in all others the second body is zero."""

MEAN_FRAMES, SHORTEST, LONGEST = 80, 30, 300
FPS = 30.0

_SPREAD = 0.4  # of the lengths' logarithm, which makes nine clips in ten 38 to 143 frames long
_CHUNK = 1024  # clips that are worked on at once: some 35 MB a tensor
_BODIES = 2
_WIDTH = _BODIES * NTU25.num_joints * 3


def generated_store(name: str, clips: int, max_frames: int, seed: int) -> Store:
    """Return ``clips`` clips, all for training, evenly down-sampled to ``max_frames``; nothing else is held for long.

    Every coordinate swings about a place of its own, with its own reach (up to 0.2 m) and rate (0.2 to 1.5 Hz).
    """
    generator = torch.Generator().manual_seed(seed)
    lengths = clip_lengths(clips, generator)
    kept = lengths.clamp(max=max_frames)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), kept.cumsum(0)])
    labels = torch.arange(clips) % CLASSES
    frames = torch.empty(int(offsets[-1]), _WIDTH)
    for start in range(0, clips, _CHUNK):
        chunk = slice(start, min(start + _CHUNK, clips))
        first, last = int(offsets[chunk.start]), int(offsets[chunk.stop])
        frames[first:last] = _motion(lengths[chunk], kept[chunk], labels[chunk] >= FIRST_MUTUAL_CLASS, generator)
    unknown = torch.full((clips,), UNKNOWN)
    info = StoreInfo(
        dataset=name,
        layout=NTU25,
        bodies=_BODIES,
        class_names=tuple(f"class {label}" for label in range(CLASSES)),
        clip_names=tuple(f"clip {clip}" for clip in range(clips)),
        fps=FPS,
        preprocessing=tuple(describe_steps([Downsample(max_frames)])),
    )
    return Store(
        frames=frames,
        offsets=offsets,
        labels=labels,
        subject=unknown,
        camera=unknown,
        setup=unknown,
        replication=unknown,
        fold=unknown,
        info=info,
    )


def clip_lengths(clips: int, generator: torch.Generator) -> Tensor:
    """Draw lengths (N) int64 before down-sampling: log-normal of mean 80 frames, within 30 and 300."""
    normal = torch.randn(clips, generator=generator)
    drawn = torch.exp(math.log(MEAN_FRAMES) - _SPREAD**2 / 2 + _SPREAD * normal)
    return drawn.round().clamp(SHORTEST, LONGEST).long()


def _motion(lengths: Tensor, kept: Tensor, has_two_bodies: Tensor, generator: torch.Generator) -> Tensor:
    """Return the kept frames of some clips end to end."""

    def drawn(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(lengths), _WIDTH, generator=generator)

    clip = torch.repeat_interleave(torch.arange(len(kept)), kept)
    within = torch.arange(len(clip)) - (kept.cumsum(0) - kept)[clip]
    seconds = within * ((lengths - 1) / (kept - 1).clamp(min=1) / FPS)[clip]
    place, reach, rate, phase = drawn(-1, 1), drawn(0, 0.2), drawn(0.2, 1.5), drawn(0, 1)
    angle = (rate * (2 * math.pi))[clip].mul_(seconds[:, None]).add_((phase * (2 * math.pi))[clip])
    frames = angle.sin_().mul_(reach[clip]).add_(place[clip])
    frames[~has_two_bodies[clip], _WIDTH // _BODIES :] = 0
    return frames
