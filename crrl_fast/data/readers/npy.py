"""NumPy's ``.npy`` and ``.npz``, without pickle and without trust in what their headers say."""

from __future__ import annotations

import io
import math
import mmap
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from crrl_fast.data.readers.archive import open_archive
from crrl_fast.data.readers.npy_header import MAX_HEADER, Header, check_text, read_header
from crrl_fast.data.readers.source import ARCHIVE_ERRORS
from crrl_fast.errors import DataError
from crrl_fast.files import open_regular
from crrl_fast.limits import limit, raising

Array = npt.NDArray[Any]

_KINDS = "iufSU"  # numbers, and text for names
_START = MAX_HEADER + 12  # of a file: all of its header


def parse_header(where: str, content: bytes, size: int) -> Header:
    """Return the header at the start of a ``.npy`` file of ``size`` bytes.

    Raises:
        DataError: see ``read_header``; or the array is empty.
    """
    header = read_header(where, io.BytesIO(content[:_START]), size, _KINDS)
    if 0 in header.shape:
        raise DataError(f"{where}: shape {header.shape} of {header.dtype} is no array of numbers")
    return header


def parse_npy(where: str, content: bytes | mmap.mmap) -> Array:
    """Return the array of a ``.npy`` file, read-only and without a copy.

    Raises:
        DataError: see ``parse_header``; or it holds text that is none.
    """
    header = parse_header(where, content[:_START], len(content))
    flat = np.frombuffer(content, header.dtype, math.prod(header.shape), header.offset)
    try:
        check_text(flat)
    except ValueError as error:
        raise DataError(f"{where}: holds {error}") from error
    return flat.reshape(header.shape, order="F" if header.fortran_order else "C")


def map_npy(path: Path) -> Array:
    """Return the array of a ``.npy`` file, memory-mapped.

    Raises:
        DataError: see ``parse_npy``; or the file cannot be read.
    """
    try:
        with open_regular(path) as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot read it ({error})") from error
    return parse_npy(str(path), content)


class Npz:
    """An open ``.npz`` archive: headers and arrays as they are asked for.

    Attributes:
        where: the archive, for messages.
        most: the limit to the size of an array.
        keys: of its arrays, in its order.
    """

    def __init__(self, where: str, archive: zipfile.ZipFile, most: str) -> None:
        self.where = where
        self.most = most
        self._archive = archive
        self._members = {
            member.filename.removesuffix(".npy"): member
            for member in archive.infolist()
            if member.filename.endswith(".npy")
        }
        self.keys = list(self._members)

    def header(self, key: str) -> Header:
        """Return what is under a key, unread; raises DataError as ``parse_header`` does."""
        return parse_header(f"{self.where}: {key}", self._read(key, _START), self._members[key].file_size)

    def array(self, key: str) -> Array:
        """Return the array under a key; raises DataError as ``parse_npy`` does."""
        size = self._members[key].file_size
        if size > limit(self.most):
            raise DataError(f"{self.where}: {key} unpacks to {size} bytes; {raising(self.most)}")
        return parse_npy(f"{self.where}: {key}", self._read(key, size + 1))

    def _read(self, key: str, size: int) -> bytes:
        member = self._members[key]
        with _damage_reported(f"{self.where}: {key}"), self._archive.open(member) as file:
            return file.read(size)


@contextmanager
def open_npz(where: str, file: Path | IO[bytes], most: str = "array") -> Iterator[Npz]:
    """Open a ``.npz`` archive, none of whose arrays may be larger than limit ``most``.

    Raises:
        DataError: it is none.
    """
    with ExitStack() as stack:
        with _damage_reported(where):
            archive = stack.enter_context(open_archive(file))
        yield Npz(where, archive, most)


@contextmanager
def _damage_reported(where: str) -> Iterator[None]:
    try:
        yield
    except ARCHIVE_ERRORS as error:
        raise DataError(f"{where}: cannot read this archive ({error})") from error
