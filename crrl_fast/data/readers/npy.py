"""NumPy's ``.npy`` and ``.npz``, without pickle and without trust in what their headers say."""

from __future__ import annotations

import io
import math
import mmap
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from crrl_fast.errors import DataError

Array = npt.NDArray[Any]

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_HEADER_BYTES = 1 << 14  # NumPy itself reads no header above 10,000
# Numbers pack to a tenth or less, zeros alone to a thousandth; small ones may pack as they like.
_MAX_RATIO = 300
_RATIO_MATTERS = 1 << 26


@dataclass(frozen=True)
class Header:
    """What a ``.npy`` file says of its array, and where that begins."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    offset: int


def parse_header(where: str, content: bytes, size: int) -> Header:
    """Return the header at the start of a ``.npy`` file of ``size`` bytes.

    Raises:
        DataError: it is none, the file is shorter than it says, or the array is empty or of other values than numbers
            or text.
    """
    stream = io.BytesIO(content[:_HEADER_BYTES])
    try:
        shape, fortran_order, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
    except (ValueError, TypeError, LookupError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError) as error:
        raise DataError(f"{where}: not a .npy array ({error})") from error
    if dtype.hasobject:
        raise DataError(f"{where}: holds Python objects, not numbers: save numbers, or a file for each clip")
    if dtype.kind not in "iufSU" or dtype.itemsize == 0 or min(shape, default=1) < 1:
        raise DataError(f"{where}: shape {shape} of {dtype} is no array of numbers")
    expected = stream.tell() + math.prod(shape) * dtype.itemsize
    if expected > size:
        raise DataError(f"{where}: shape {shape} of {dtype} makes {expected} bytes, but there are {size}: cut short?")
    return Header(shape, dtype, fortran_order, stream.tell())


def parse_npy(where: str, content: bytes | mmap.mmap) -> Array:
    """Return the array of a ``.npy`` file, read-only and without a copy.

    Raises:
        DataError: see ``parse_header``.
    """
    header = parse_header(where, content[:_HEADER_BYTES], len(content))
    flat = np.frombuffer(content, header.dtype, math.prod(header.shape), header.offset)
    return flat.reshape(header.shape, order="F" if header.fortran_order else "C")


def map_npy(path: Path) -> Array:
    """Return the array of a ``.npy`` file, memory-mapped.

    Raises:
        DataError: see ``parse_npy``; or the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot read it ({error})") from error
    return parse_npy(str(path), content)


class Npz:
    """An open ``.npz`` archive: headers and arrays as they are asked for.

    Attributes:
        where: the archive, for messages.
        keys: of its arrays, in its order.
    """

    def __init__(self, where: str, archive: zipfile.ZipFile) -> None:
        self.where = where
        self._archive = archive
        self._members = {
            member.filename.removesuffix(".npy"): member
            for member in archive.infolist()
            if member.filename.endswith(".npy")
        }
        self.keys = list(self._members)

    def header(self, key: str) -> Header:
        """Return what is under a key, unread; raises DataError as ``parse_header`` does."""
        return parse_header(f"{self.where}: {key}", self._read(key, _HEADER_BYTES), self._members[key].file_size)

    def array(self, key: str) -> Array:
        """Return the array under a key; raises DataError as ``parse_npy`` does."""
        return parse_npy(f"{self.where}: {key}", self._read(key, -1))

    def _read(self, key: str, size: int) -> bytes:
        member = self._members[key]
        if member.file_size > max(_RATIO_MATTERS, _MAX_RATIO * member.compress_size):
            raise DataError(
                f"{self.where}: {key} unpacks from {member.compress_size} to {member.file_size} bytes: a zip bomb? "
                "If it is right, save it uncompressed"
            )
        with _damage_reported(f"{self.where}: {key}"), self._archive.open(member) as file:
            return file.read(size)


@contextmanager
def open_npz(where: str, file: Path | IO[bytes]) -> Iterator[Npz]:
    """Open a ``.npz`` archive.

    Raises:
        DataError: it is none.
    """
    with _damage_reported(where):
        archive = zipfile.ZipFile(file)
    with archive:
        yield Npz(where, archive)


@contextmanager
def _damage_reported(where: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: cannot read this archive ({error})") from error
