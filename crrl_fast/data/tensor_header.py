"""The header of a safetensors file, checked before anything is made of it.

The library checks most of this too, but holds a header of 100 MB for small, and takes a name that stands twice.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from crrl_fast.errors import DataError
from crrl_fast.files import MALFORMED, open_regular
from crrl_fast.limits import limit, raising

_METADATA = "__metadata__"
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_MOST_TENSORS = 10_000
_MOST_AXES = 8


@dataclass(frozen=True)
class TensorEntry:
    """What a header says of one tensor.

    Attributes:
        dtype: ``F32`` for instance.
        shape: its shape.
        begin: the byte of the file that it begins at.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int


@dataclass(frozen=True)
class TensorHeader:
    """What a header says: of its tensors, and the texts that its writer added."""

    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]


def read_tensor_header(path: Path, cure: str = "write it again") -> TensorHeader:
    """Read the header of a safetensors file and check it against itself and the size of the file.

    Args:
        path: of the file.
        cure: what the message tells the user to do about a damaged file.

    Raises:
        DataError: the file cannot be read or is cut short; its header is damaged or larger than limit ``header``; a
            name stands twice; or its tensors do not lie end to end, each as large as its shape and dtype say.
    """
    try:
        with open_regular(path) as file:
            return tensor_header_of(file, path, cure)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def tensor_header_of(file: BinaryIO, path: Path, cure: str = "write it again") -> TensorHeader:
    """Return what ``read_tensor_header`` does, of a file that is open.

    Raises:
        DataError: see there.
        OSError: it cannot be read.
    """
    try:
        size = file.seek(0, 2) - 8
        file.seek(0)
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(size, limit("header")):
            why = f"cut short: {cure}" if length > size else raising("header")
            raise DataError(f"{path}: announces a header of {length} bytes in a file of {size + 8}: {why}")
        return _parse(file.read(length), size - length, 8 + length)
    except (*MALFORMED, struct.error) as error:
        raise DataError(
            f"{path}: not a readable safetensors file, or cut short ({str(error)[:200]}): {cure}"
        ) from error


def _parse(text: bytes, size: int, start: int) -> TensorHeader:
    values = json.loads(text, object_pairs_hook=_once)
    metadata = values.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are no texts")
    if len(values) > _MOST_TENSORS:
        raise ValueError(f"{len(values)} tensors")
    tensors = {}
    spans = []
    for name, value in values.items():
        tensors[name], span = _entry(name, value, start)
        spans.append((*span, name))
    end = 0
    for begin, stop, name in sorted(spans):
        if begin != end:
            raise ValueError(
                f"tensor {name!r} begins at byte {begin}, where {end} is due: they overlap, or leave a gap"
            )
        end = stop
    if end != size:
        raise ValueError(f"its tensors make {end} bytes, but there are {size}")
    return TensorHeader(tensors, metadata)


def _entry(name: str, value: Any, start: int) -> tuple[TensorEntry, tuple[int, int]]:  # noqa: ANN401 (JSON)
    dtype, shape, (begin, end) = value["dtype"], value["shape"], value["data_offsets"]
    if dtype not in _SIZES:
        raise ValueError(f"tensor {name!r} has unknown dtype {dtype!r}")
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)) or len(shape) > _MOST_AXES:
        raise ValueError(f"tensor {name!r} has shape {shape} at bytes {begin} to {end}")
    if math.prod(shape) * _SIZES[dtype] != end - begin:
        raise ValueError(f"tensor {name!r} of shape {shape} and dtype {dtype} does not take {end - begin} bytes")
    return TensorEntry(dtype, tuple(shape), start + begin), (begin, end)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"{name!r} stands twice")
        values[name] = value
    return values
