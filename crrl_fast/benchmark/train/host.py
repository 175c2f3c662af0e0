"""The data as the release feeds it: four host arrays of every clip, collated by a DataLoader."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from crrl_fast.data.store import Store

LOADER_WORKERS = {"cpu": 0, "cuda": 4}
"""The release loads in 4 processes. Where the step itself runs on the CPU they would take its cores, so that it is
faster without them."""


class HostBatch(NamedTuple):
    """Clips by falling length, as packing wants them, padded to the longest with zeros; all (B, T, D) on the host.

    Attributes:
        frames: the valid frames of each clip.
        coords: coordinates.
        reverse: the same, reversed in time.
        velocity: differences of successive frames, zero at a clip's last.
        velocity_reverse: the same, reversed in time; the release loads it and never uses it.
    """

    frames: list[int]
    coords: Tensor
    reverse: Tensor
    velocity: Tensor
    velocity_reverse: Tensor


class HostClips(Dataset[tuple[Tensor, ...]]):
    """The release's four arrays, each with an entry a clip.

    It pads those of NTU to the longest clip of all and keeps those of the other data sets at their own lengths. Here
    all keep their own lengths, which takes less memory and less copying.

    Args:
        store: where the clips come from.
        index: (N) int64, which clips.
    """

    def __init__(self, store: Store, index: Tensor) -> None:
        starts, ends = store.offsets[index].tolist(), store.offsets[index + 1].tolist()
        self._coords = [store.frames[start:end].clone() for start, end in zip(starts, ends, strict=True)]
        self._reverse = [clip.flip(0) for clip in self._coords]
        self._velocity = [torch.cat([clip.diff(dim=0), torch.zeros_like(clip[:1])]) for clip in self._coords]
        self._velocity_reverse = [clip.flip(0) for clip in self._velocity]

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self._coords)

    def __getitem__(self, position: int) -> tuple[Tensor, ...]:
        """Return a clip's four (T, D) arrays."""
        arrays = self._coords, self._reverse, self._velocity, self._velocity_reverse
        return tuple(array[position] for array in arrays)

    @property
    def lengths(self) -> Tensor:
        """Frames of each clip, (N) int64."""
        return torch.tensor([len(clip) for clip in self._coords])

    @property
    def nbytes(self) -> int:
        """Bytes of all four arrays."""
        return sum(array.nbytes for position in range(len(self)) for array in self[position])


def collate(clips: list[tuple[Tensor, ...]]) -> HostBatch:
    """Return clips as one batch."""
    clips.sort(key=lambda arrays: len(arrays[0]), reverse=True)
    padded = (pad_sequence(list(arrays), batch_first=True) for arrays in zip(*clips, strict=True))
    return HostBatch([len(arrays[0]) for arrays in clips], *padded)


def batches_in_order(data: HostClips, batches: list[list[int]], device: torch.device) -> DataLoader[tuple[Tensor, ...]]:
    """Return a loader of the given batches, each a list of positions; it yields ``HostBatch``."""
    return DataLoader(data, batch_sampler=batches, collate_fn=collate, num_workers=LOADER_WORKERS[device.type])


def shuffled_batches(data: HostClips, batch_size: int, device: torch.device) -> DataLoader[tuple[Tensor, ...]]:
    """Return a loader of full batches in another random order each epoch, as the release trains."""
    return DataLoader(
        data,
        batch_size,
        shuffle=True,
        drop_last=True,
        collate_fn=collate,
        num_workers=LOADER_WORKERS[device.type],
    )
