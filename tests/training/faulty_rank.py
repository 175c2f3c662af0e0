"""The command line with a fault on one rank: `torchrun ... -m tests.training.faulty_rank RANK FAULT ARGUMENTS...`."""

import os
import sys

import torch

from crrl_fast import cli
from crrl_fast.data import catalog, loading
from crrl_fast.data.batches import ResidentClips
from crrl_fast.errors import DataError


def lack_memory_for_batches() -> None:
    batch = ResidentClips.batch

    def limited(self, position, frames=None):
        if len(position) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return batch(self, position, frames)

    ResidentClips.batch = limited


def lack_the_store() -> None:
    def vanish(path):
        raise DataError(f"{path}: no such file")

    catalog.load_store = vanish


def read_another_store() -> None:
    load = loading.load_store

    def other(path):
        loaded = load(path)
        frames = 2 * loaded.store.frames
        return loaded._replace(store=type(loaded.store)(**{**vars(loaded.store), "frames": frames}).hashed())

    catalog.load_store = other


FAULTS = {fault.__name__: fault for fault in (lack_memory_for_batches, lack_the_store, read_another_store)}

if __name__ == "__main__":
    rank, fault = sys.argv.pop(1), sys.argv.pop(1)
    if os.environ["RANK"] == rank:
        FAULTS[fault]()
    cli.main()
