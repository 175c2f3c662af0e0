"""Batches drawn from a store that lies whole on the training device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from crrl_fast.data.store import Store


class Batch(NamedTuple):
    """Clips padded to the longest of the batch.

    Attributes:
        coords: (B, T, D) floating, zero after each clip's end.
        lengths: (B) int64, valid frames, on the device of ``coords``.
        host_lengths: the same on the host, where packing a sequence needs them; kept so that no step synchronises.
        position: (B) int64 on the device, each clip's position within its ``ResidentClips``.
        labels: (B) int64 on the device, -1 unknown.
    """

    coords: Tensor
    lengths: Tensor
    host_lengths: Tensor
    position: Tensor
    labels: Tensor


class ResidentClips:
    """Some clips of a store whose frames are resident on a device.

    Args:
        store: where the clips come from.
        index: (N) int64, which clips.
        frames: the store's frames on the device where batches are made; several parts may share them.
    """

    def __init__(self, store: Store, index: Tensor, frames: Tensor) -> None:
        device = frames.device
        self.device = device
        self.labels = store.labels[index].to(device)
        self._frames = frames
        self._starts = store.offsets[index].to(device)
        self._host_lengths = store.lengths[index]
        self._lengths = self._host_lengths.to(device)

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self._starts)

    @property
    def width(self) -> int:
        """Numbers D a frame."""
        return self._frames.shape[1]

    def batch(self, position: Tensor) -> Batch:
        """Return the clips at ``position`` ((B) int64 on the host) as one padded batch."""
        host_lengths = self._host_lengths[position]
        position = position.to(self.device, non_blocking=True)
        lengths = self._lengths[position]
        time = torch.arange(int(host_lengths.max()), device=self.device)
        valid = time < lengths[:, None]
        source = self._starts[position, None] + torch.minimum(time, lengths[:, None] - 1)
        coords = self._frames[source] * valid[:, :, None]
        return Batch(coords, lengths, host_lengths, position, self.labels[position])

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Yield every clip once, in random order; the last batch holds what is left."""
        order = torch.randperm(len(self), generator=generator)
        return (self.batch(position) for position in order.split(batch_size))

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        """Yield every clip once, in order."""
        return (self.batch(position) for position in torch.arange(len(self)).split(batch_size))


def resident_split(store: Store, split: str | None, device: torch.device) -> tuple[ResidentClips, ResidentClips]:
    """Return the training and the test part of a split, sharing one copy of the frames on ``device``.

    Raises:
        ConfigError: see ``Store.split``.
    """
    frames = store.frames.to(device)
    train, test = store.split(split)
    return ResidentClips(store, train, frames), ResidentClips(store, test, frames)
