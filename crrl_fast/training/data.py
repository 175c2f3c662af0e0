"""The clips of a run: read once, whole and verified, alike in all its processes, and then resident on the device."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips, resident_split
from crrl_fast.data.catalog import load_data
from crrl_fast.data.file_version import FileWatch
from crrl_fast.data.finite import check_finite
from crrl_fast.data.info import StoreInfo
from crrl_fast.data.loading import LoadedStore
from crrl_fast.data.preprocess import (
    ALIGNMENTS,
    Bone,
    Motion,
    Rotate,
    effective_steps,
    steps_from_record,
    write_steps,
)
from crrl_fast.data.store import Store
from crrl_fast.errors import DataError
from crrl_fast.training.distributed import Ranks
from crrl_fast.training.request import PretrainRequest
from crrl_fast.training.resume import where_saved


class TrainingData(NamedTuple):
    """What a run trains on.

    Attributes:
        store: in memory.
        file: that it was read from; None where it was given in memory.
        train: the training clips on the device.
        test: the test clips there.
        warning: a line about what the recipe asks for and the store no longer has; None where there is none.
    """

    store: Store
    file: FileWatch | None
    train: ResidentClips
    test: ResidentClips
    warning: str | None


def load_training_data(request: PretrainRequest, ranks: Ranks) -> TrainingData:
    """Read the store, and put its clips on the device.

    Raises:
        DataError: the store is missing, damaged or changing, has values that are not finite, or holds no poses that the
            recipe could turn; on all ranks.
        ConfigError: it has no such split.
        DeviceMemoryError: its frames do not fit on the device.
    """
    try:
        store, file = _in_memory(request.data) if isinstance(request.data, Store) else _read(request.data, ranks)
        digest = ranks.from_first(lambda: store.info.sha256)
        ranks.together(partial(_check_alike, store, digest))
    except DataError as error:
        if not request.candidates or request.is_search:
            raise
        raise DataError(
            f"{error}; {where_saved(request.candidates[0])} and goes on with --resume where the store is again as it "
            "was; --data names it where it has moved"
        ) from error
    warning = _check_alignment(store.info, request.recipe)
    parts = ranks.together(
        lambda: resident_split(store.processed(request.recipe.preprocessing()), request.split, request.device)
    )
    assert parts is not None
    return TrainingData(store, file, *parts, warning)


def _check_alignment(info: StoreInfo, recipe: Recipe) -> str | None:
    done = steps_from_record(info.preprocessing)
    is_pose = not any(isinstance(step, Motion | Bone) for step in done)
    if not is_pose and effective_steps(ALIGNMENTS[recipe.align], math.inf, done):
        raise DataError(
            f"data set {info.dataset!r} was preprocessed with {write_steps(done)}, so that align={recipe.align} finds "
            "no pose in it: prepare it without motion and bone, which recipe field stream takes, or set align=none"
        )
    if recipe.align == "turn" and Rotate() in done:
        return (
            f"{info.dataset}: gravity is lost in this store (preprocessed with {write_steps(done)}): prepare it again "
            "without rotate to get what align=turn is for"
        )
    return None


def _in_memory(store: Store) -> tuple[Store, None]:
    """Return a copy: whoever gave the store, or the file that it maps, may change it while the run trains."""
    store = store.copied().hashed()
    check_finite(store, f"data set {store.info.dataset!r}")
    return store, None


def _read(data: str, ranks: Ranks) -> tuple[Store, FileWatch]:
    load = partial(load_data, data)
    # One process of each machine comes first: the embedded data set may have to be generated.
    loaded: LoadedStore | None = ranks.together(load, here=ranks.local_rank == 0)
    others = ranks.together(load, here=loaded is None)
    loaded = loaded or others
    assert loaded is not None
    return loaded.store, FileWatch(loaded.path, loaded.version)


def _check_alike(store: Store, digest: str) -> None:
    if store.info.sha256 != digest:
        raise DataError(
            f"data set {store.info.dataset!r}: the processes of this run read different stores (hashes "
            f"{store.info.sha256[:12]} and {digest[:12]}): it was replaced while they read it, or machines have copies "
            "that differ"
        )
