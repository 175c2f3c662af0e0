"""Arrays in ``.npy`` files and ``.npz`` archives, read row by row so that a file may be larger than memory."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from crrl_fast.data.readers.archive import open_archive
from crrl_fast.data.readers.npy_header import HEADER_ERRORS, Header, check_text, read_header
from crrl_fast.data.readers.pickled_arrays import PLAIN_KINDS, AnyArray
from crrl_fast.data.readers.pickles import unpickle
from crrl_fast.data.readers.source import ARCHIVE_ERRORS
from crrl_fast.errors import DataError
from crrl_fast.files import open_regular

MAX_LOADED = 1 << 30
"""Bytes of an array that is read as a whole; clips are read one by one instead."""

_MAX_ROW = 1 << 28
_BLOCK = 1 << 20
_UNREADABLE = (*ARCHIVE_ERRORS, *HEADER_ERRORS)


@dataclass(frozen=True)
class Array:
    """An array in a file. What was checked is its header and its size; content is read on demand.

    Attributes:
        where: file and member, for messages.
        shape: of the array, at least one axis.
        dtype: bool, a number, text, or object.
    """

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    _rows: Callable[[], Iterator[AnyArray]]

    def __len__(self) -> int:
        """Return the length of the first axis."""
        return self.shape[0]

    def rows(self) -> Iterator[Any]:
        """Yield ``array[0]``, ``array[1]``, ...

        An array of objects, or of an archive and in Fortran order, is in memory as a whole meanwhile; any other, a
        megabyte or a row at a time.

        Raises:
            DataError: the file is damaged, or holds objects other than arrays and plain containers.
        """
        with _reporting(self.where):
            yield from self._rows()

    def held(self) -> Array:
        """Return the same array with its rows in memory."""
        rows = list(self.rows())
        return replace(self, _rows=lambda: iter(rows))

    def load(self) -> list[Any]:
        """Return all rows.

        Raises:
            DataError: see ``rows``; or they are larger than ``MAX_LOADED``.
        """
        size = math.prod(self.shape) * self.dtype.itemsize
        if size > MAX_LOADED:
            raise DataError(f"{self.where}: {size} bytes, where no more than {MAX_LOADED} are expected")
        return list(self.rows())


def open_npy(path: Path) -> Array:
    """Open a ``.npy`` file.

    Raises:
        DataError: it is missing, damaged or cut short, or holds something else than a plain array.
    """
    where = str(path)
    with _reporting(where), open_regular(path) as file:
        size = path.stat().st_size
        header = _read_header(where, file, size)
    shape, dtype, offset = header.shape, header.dtype, header.offset

    def rows() -> Iterator[AnyArray]:
        if dtype.kind == "O":
            with path.open("rb") as file:
                file.seek(offset)
                array = _unpickle_array(where, file, size - offset, shape)
            yield from array
        elif header.fortran_order:
            yield from check_text(np.memmap(path, dtype, "r", offset, shape, "F"))
        else:
            with path.open("rb") as file:
                file.seek(offset)
                yield from _stream_rows(where, file, shape, dtype)

    return Array(where, shape, dtype, rows)


def open_npz(path: Path) -> dict[str, Array]:
    """Open the arrays of a ``.npz`` archive, by name.

    Raises:
        DataError: it is missing or damaged, or a member is cut short, packed beyond belief, or no plain array.
    """
    arrays = {}
    with _reporting(str(path)), open_archive(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                arrays[member.filename.removesuffix(".npy")] = _open_member(path, archive, member)
    return arrays


def _open_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    where = f"{path}: {member.filename}"
    size = member.file_size
    with archive.open(member) as file:
        header = _read_header(where, file, size)
    shape, dtype, offset = header.shape, header.dtype, header.offset

    def rows() -> Iterator[AnyArray]:
        with open_archive(path) as again, again.open(member) as file:
            file.read(offset)
            if dtype.kind == "O":
                if size > MAX_LOADED:
                    raise DataError(f"{where}: {size} bytes of objects; save it as a .npy file of its own")
                yield from _unpickle_array(where, file, size - offset, shape)
            elif header.fortran_order:
                if size > MAX_LOADED:
                    raise DataError(f"{where}: in Fortran order; save it in C order (np.ascontiguousarray)")
                yield from check_text(np.frombuffer(file.read(size), dtype).reshape(shape, order="F"))
            else:
                yield from _stream_rows(where, file, shape, dtype)

    return Array(where, shape, dtype, rows)


def _stream_rows(where: str, file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[AnyArray]:
    row = math.prod(shape[1:]) * dtype.itemsize
    if row > _MAX_ROW:
        raise DataError(f"{where}: shape {shape} makes clips of {row} bytes, beyond {_MAX_ROW}")
    block = max(1, _BLOCK // row)
    for start in range(0, shape[0], block):
        count = min(block, shape[0] - start)
        yield from check_text(np.frombuffer(file.read(count * row), dtype).reshape(count, *shape[1:]))


def _unpickle_array(where: str, file: IO[bytes], size: int, shape: tuple[int, ...]) -> npt.NDArray[np.object_]:
    array = unpickle(file, size, where)
    if not isinstance(array, np.ndarray) or array.dtype.kind != "O" or array.shape != shape:
        raise DataError(f"{where}: its header announces objects of shape {shape}, which do not follow")
    return array


def _read_header(where: str, file: IO[bytes], size: int) -> Header:
    header = read_header(where, file, size, PLAIN_KINDS)
    if not header.shape or 0 in header.shape[1:]:
        raise DataError(f"{where}: shape {header.shape} of {header.dtype} is no array of numbers")
    return header


@contextmanager
def _reporting(where: str) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise DataError(f"{where}: cannot be read ({error or type(error).__name__})") from error
