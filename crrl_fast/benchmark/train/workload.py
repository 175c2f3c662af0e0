"""What all contenders work on: a training part, and the batches to draw from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from crrl_fast.benchmark.train.flops import Ragged
from crrl_fast.benchmark.train.generated import NTU60_TRAINING_CLIPS, generated_store
from crrl_fast.config import Recipe
from crrl_fast.data.catalog import DEMO, default_path, open_data
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError
from crrl_fast.seeding import derive_seed

GENERATED = "ntu60-size"


@dataclass(frozen=True)
class Workload:
    """The clips of a training part and an order of full batches.

    Attributes:
        name: of the data set.
        store: its clips, at most ``recipe.max_frames`` long.
        index: (N) int64, the training clips.
        batches: (S, B) int64, the positions within ``index`` of each step's clips.
        drawn: (M) int64 rising, the positions that stand in ``batches``.
    """

    name: str
    store: Store
    index: Tensor
    batches: Tensor
    drawn: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Find the positions that are drawn."""
        object.__setattr__(self, "drawn", self.batches.unique())

    @property
    def width(self) -> int:
        """Numbers a frame."""
        return self.store.frames.shape[1]

    @property
    def lengths(self) -> Tensor:
        """Frames of each training clip, (N) int64."""
        return self.store.lengths[self.index]

    @property
    def drawn_share(self) -> float:
        """Training frames that belong to drawn clips, as a part of all."""
        return float(self.lengths[self.drawn].sum() / self.lengths.sum())

    @property
    def rows(self) -> Tensor:
        """``batches`` as positions within ``drawn``."""
        return torch.searchsorted(self.drawn, self.batches)

    def ragged(self, step: int) -> Ragged:
        """Return the clips and the valid frames of a step's batch."""
        batch = self.batches[step]
        return Ragged(len(batch), int(self.lengths[batch].sum()))


def default_data() -> list[str]:
    """Return what is measured where nothing is named: NW-UCLA where its store is found, and what can be generated."""
    return [*(["ucla"] if default_path("ucla").is_file() else []), DEMO, GENERATED]


def check_data(names: Sequence[str]) -> None:
    """Open each store, so that one that is missing is known before anything is measured.

    Raises:
        DataError: there is no such store, or it is not readable.
    """
    for name in names:
        if name != GENERATED:
            open_data(name)


def open_store(name: str, recipe: Recipe, seed: int) -> Store:
    """Open a store by name or path, or generate ``ntu60-size``; its clips have at most ``recipe.max_frames`` frames.

    Raises:
        DataError: there is no such store, or it is not readable.
    """
    if name == GENERATED:
        return generated_store(GENERATED, NTU60_TRAINING_CLIPS, recipe.max_frames, derive_seed(seed, GENERATED))
    return open_data(name)[0].processed(recipe.preprocessing())


def workload(name: str, store: Store, recipe: Recipe, steps: int, seed: int) -> Workload:
    """Return the training part of the store's first split and ``steps`` batches, epoch after epoch in random order.

    Raises:
        ConfigError: there are fewer training clips than a batch takes.
    """
    index, _ = store.split()
    size = recipe.batch_size
    if len(index) < size:
        raise ConfigError(f"{name}: {len(index)} training clips make no batch of {size}")
    generator = torch.Generator().manual_seed(derive_seed(seed, "batches"))
    batches: list[Tensor] = []
    while len(batches) < steps:
        order = torch.randperm(len(index), generator=generator)
        batches += order[: len(order) // size * size].split(size)
    return Workload(name, store, index, torch.stack(batches[:steps]))
