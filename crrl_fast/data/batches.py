"""Batches drawn from a store that lies whole on the training device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from crrl_fast.data.shuffling import bucketed_order
from crrl_fast.data.store import Store
from crrl_fast.errors import DeviceMemoryError
from crrl_fast.memory import device_memory, gigabytes, is_out_of_memory
from crrl_fast.ops import sample_view_params, skeleton_views
from crrl_fast.views import Part, ViewParams


class Batch(NamedTuple):
    """Clips padded to one number of frames T.

    Attributes:
        coords: (B, T, D) floating, zero after each clip's end.
        velocity: (B, T, D), ``coords[:, t + 1] - coords[:, t]``, zero at each clip's last frame and after it.
        lengths: (B) int64, valid frames.
        position: (B) int64, each clip's position within its ``ResidentClips``.
        labels: (B) int64, -1 unknown.
        key: another view of the same clips, whose velocity and coordinates are contrasted with those of this one; None:
            they are its own.
        counts: clips on each rank, where these are one rank's part of a batch; None: they are all of it.
    """

    coords: Tensor
    velocity: Tensor
    lengths: Tensor
    position: Tensor
    labels: Tensor
    key: Batch | None = None
    counts: tuple[int, ...] | None = None


class BatchPlan(NamedTuple):
    """Which clips make a batch; known before anything of it is read.

    Attributes:
        position: (B) int64 on the device, positions within a ``ResidentClips``.
        frames: frames of the longest of them; a host number, so that nobody waits for the device to learn a shape.
    """

    position: Tensor
    frames: int


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
        self._store = store
        self._index = index
        self.labels = store.labels[index].to(device)
        self._frames = frames
        self._offsets = store.offsets.to(device)
        self._clips = index.to(device)
        self._host_lengths = store.lengths[index]
        self._views = sample_view_params("none", self._host_lengths.to(device), store.layout)

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self._clips)

    @property
    def width(self) -> int:
        """Numbers D a frame."""
        return self._frames.shape[1]

    @property
    def longest(self) -> int:
        """Frames of the longest clip."""
        return int(self._host_lengths.max())

    def names(self, position: Tensor) -> list[str]:
        """Return the names of the clips at ``position`` ((B) int64)."""
        return [self._store.info.clip_names[clip] for clip in self._clips[position].tolist()]

    def subset(self, position: Tensor) -> ResidentClips:
        """Return the clips at ``position`` ((B) int64 on the host); they share the frames on the device."""
        return ResidentClips(self._store, self._index[position], self._frames)

    def batch(self, position: Tensor, frames: int | None = None) -> Batch:
        """Return clips as they are, padded to ``frames``.

        Args:
            position: (B) int64 on the device.
            frames: T, at least the frames of the longest of them; None: just these, for which a GPU is waited for.
        """
        return self._batch(position, self._views.select(position), frames)

    def two_views(self, position: Tensor, preset: Part, frames: int) -> Batch:
        """Return a random view of each clip, with another as its ``key``; a GPU is not waited for.

        No view is longer than its clip: a preset that asks for more frames gets the same crop in as many as the clip
        has, so that a batch's number of frames is known before the views are drawn.

        Args:
            position: (B) int64 on the device.
            preset: what the views are drawn from, by torch's own generator of the device.
            frames: T, at least the frames of the longest clip.
        """
        first, second = (self.view(position, preset, frames) for _ in range(2))
        return first._replace(key=second)

    def view(self, position: Tensor, preset: Part, frames: int, generator: torch.Generator | None = None) -> Batch:
        """Return one random view of each clip, as ``two_views`` does; ``generator`` may be of any device."""
        lengths = self._views.lengths[position]
        params = sample_view_params(preset, lengths, self._store.layout, generator)
        return self._batch(position, params._replace(lengths=torch.minimum(params.lengths, lengths)), frames)

    def _batch(self, position: Tensor, params: ViewParams, frames: int | None) -> Batch:
        views = skeleton_views(self._frames, self._offsets, self._clips[position], params, out_frames=frames)
        return Batch(views.coords, views.velocity, views.lengths, position, self.labels[position])

    def shuffled(self, batch_size: int, generator: torch.Generator, buckets: int = 0) -> Iterator[BatchPlan]:
        """Yield batches that hold every clip once, in random order; the last one holds what is left.

        Args:
            batch_size: clips a batch.
            generator: of the order, on the host.
            buckets: 0 shuffles uniformly; see ``bucketed_order`` for more.
        """
        order = torch.randperm(len(self), generator=generator)
        if buckets:
            order = bucketed_order(order, self._host_lengths, batch_size, buckets, generator)
        return self.in_order(order, batch_size)

    def longest_first(self, count: int) -> BatchPlan:
        """Return the batch of ``count`` clips that is the largest."""
        order = self._host_lengths.argsort(descending=True, stable=True)
        return next(self.in_order(order[:count], count))

    def by_length(self, batch_size: int) -> Iterator[BatchPlan]:
        """Yield batches that hold every clip once, from the shortest to the longest."""
        return self.in_order(self._host_lengths.argsort(stable=True), batch_size)

    def in_order(self, order: Tensor, batch_size: int) -> Iterator[BatchPlan]:
        """Yield batches of the clips at ``order`` ((N) int64 on the host); the last one holds what is left."""
        lengths = F.pad(self._host_lengths[order], (0, -len(order) % batch_size))
        longest = lengths.view(-1, batch_size).amax(dim=1).tolist()
        return map(BatchPlan, order.to(self.device, non_blocking=True).split(batch_size), longest)


def resident_split(store: Store, split: str | None, device: torch.device) -> tuple[ResidentClips, ResidentClips]:
    """Return the training and the test part of a split, sharing one copy of the frames on ``device``.

    Raises:
        ConfigError: see ``Store.split``.
        DeviceMemoryError: the frames do not fit on the device.
    """
    frames = resident_frames(store, device)
    train, test = store.split(split)
    store = replace(store, frames=frames)  # so that those on the host can be let go
    return ResidentClips(store, train, frames), ResidentClips(store, test, frames)


def resident_frames(store: Store, device: torch.device) -> Tensor:
    """Return the frames of a store on a device.

    Raises:
        DeviceMemoryError: they do not fit there.
    """
    try:
        return store.frames.to(device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    raise DeviceMemoryError(
        f"data set {store.info.dataset!r}: its frames, {gigabytes(store.frames.nbytes)}, do not fit on "
        f"{device_memory(device)}: end other programs there, prepare it with fewer frames a clip (--preprocess "
        "center,downsample=30), or take --device cpu"
    )
