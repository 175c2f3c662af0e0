"""The safetensors format, written as a stream: safetensors itself takes only tensors that lie in memory whole.

https://huggingface.co/docs/safetensors: the length of the header as 8 bytes little endian, the header as JSON padded
with spaces, then the tensors one after the other.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

_CHUNK_BYTES = 1 << 24
_DTYPES = {"float32": "F32", "int64": "I64"}


class TensorSource(Protocol):
    """A tensor whose bytes can be had piece by piece."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        ...

    @property
    def dtype(self) -> str:
        """``float32`` or ``int64``."""
        ...

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield its bytes in order."""
        ...


@dataclass(frozen=True)
class ArrayTensor:
    """A tensor in memory."""

    array: npt.NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.array.shape

    @property
    def dtype(self) -> str:
        """Its NumPy dtype."""
        return self.array.dtype.name

    def chunks(self) -> Iterator[memoryview]:
        """Yield its bytes at once."""
        yield np.ascontiguousarray(self.array).data.cast("B") if self.array.size else memoryview(b"")


@dataclass(frozen=True)
class FileTensor:
    """A float32 matrix whose rows lie in a file of their own."""

    path: Path
    rows: int
    columns: int
    dtype: str = "float32"

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return self.rows, self.columns

    def chunks(self) -> Iterator[bytes]:
        """Yield its bytes as they are read."""
        with self.path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk


def digest(tensors: Mapping[str, TensorSource]) -> str:
    """Return the SHA-256 of names, shapes, dtypes and bytes."""
    state = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        state.update(f"{name} {tensor.shape} torch.{tensor.dtype}\n".encode())
        for chunk in tensor.chunks():
            state.update(chunk)
    return state.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, TensorSource], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file."""
    # The widest numbers first, so that each tensor starts on a multiple of its own.
    ordered = sorted(tensors.items(), key=lambda item: (item[1].dtype != "int64", item[0]))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for _, tensor in ordered:
            for chunk in tensor.chunks():
                file.write(chunk)
