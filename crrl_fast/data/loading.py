"""Stores read into memory whole, and verified: what happens to the file later changes nothing.

A file that is memory-mapped is not read before its numbers are needed. If it is written to by then, they are others; if
it was cut short, or its file system is gone, the process dies of SIGBUS, without a word.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import BinaryIO, NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from crrl_fast.data.file_version import FileVersion, change
from crrl_fast.data.finite import check_finite
from crrl_fast.data.info import METADATA_KEY, parse_header
from crrl_fast.data.store import PREPARE_AGAIN, Store, check_tensors
from crrl_fast.data.tensor_header import TensorEntry, tensor_header_of
from crrl_fast.errors import DataError
from crrl_fast.files import open_regular
from crrl_fast.memory import available_memory, gigabytes

_CHUNK_BYTES = 1 << 24
_DTYPES = {"F32": torch.float32, "I64": torch.int64}
# Several runs on one store, or several encoders of a run, share what is in memory.
_loaded: WeakValueDictionary[tuple[Path, FileVersion], Store] = WeakValueDictionary()


class LoadedStore(NamedTuple):
    """A store in memory.

    Attributes:
        store: its tensors have the hash that it records, and its frames are finite.
        path: of the file that it was read from.
        version: of that file.
    """

    store: Store
    path: Path
    version: FileVersion


def load_store(path: str | Path) -> LoadedStore:
    """Read a store into memory, and verify its hash and its numbers.

    Raises:
        DataError: the file is missing, truncated, no store, or of another version; it has changed while it was read, or
            since it was prepared; it has values that are not finite; or there is not enough memory.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with open_regular(path) as file:
            version = FileVersion.of(os.fstat(file.fileno()))
            key = path.resolve(), version
            store = _loaded.get(key)
            if store is None:
                store = _loaded[key] = _read(file, path, version)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return LoadedStore(store, path, version)


def _read(file: BinaryIO, path: Path, version: FileVersion) -> Store:
    header = tensor_header_of(file, path, PREPARE_AGAIN)
    info = parse_header(path, header.metadata.get(METADATA_KEY))
    available = available_memory()
    if available is not None and version.size > available:
        raise DataError(
            f"{path}: takes {gigabytes(version.size)} of memory, and {gigabytes(available)} are free: end other "
            "programs, prepare it with fewer frames a clip (--preprocess center,downsample=30), or take a "
            "larger machine"
        )
    tensors = {name: _tensor(file, path, entry) for name, entry in header.tensors.items()}
    changed = change(path, version)
    if changed is not None:
        raise DataError(f"{path}: {changed} while it was read: start again when it is whole")
    check_tensors(path, tensors, info)
    store = Store(info=info, **tensors)
    check_finite(store, path)
    if store.digest() != info.sha256:
        raise DataError(
            f"{path}: damaged, or changed since it was prepared (its tensors do not have the hash {info.sha256[:12]} "
            f"that it records): {PREPARE_AGAIN}"
        )
    return store


def _tensor(file: BinaryIO, path: Path, entry: TensorEntry) -> Tensor:
    if entry.dtype not in _DTYPES:
        return torch.empty(entry.shape, dtype=torch.bool, device="meta")  # refused by its dtype
    tensor = torch.empty(entry.shape, dtype=_DTYPES[entry.dtype])
    if not math.prod(entry.shape):
        return tensor
    content = tensor.numpy().data.cast("B")
    file.seek(entry.begin)
    done = 0
    while done < len(content):
        read = file.readinto(content[done : done + _CHUNK_BYTES])  # type: ignore[attr-defined]
        if not read:
            raise DataError(f"{path}: was cut short while it was read: start again when it is whole")
        done += read
    return tensor
