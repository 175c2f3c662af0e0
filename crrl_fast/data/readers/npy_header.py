"""What a ``.npy`` file says of its array: checked before anything is read."""

from __future__ import annotations

import io
import math
import sys
import tokenize
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from crrl_fast.errors import DataError

HEADER_ERRORS = (ValueError, TypeError, LookupError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError)
"""What NumPy raises over a damaged header, which is a Python literal."""

MAX_HEADER = 10_000
"""Bytes; NumPy itself reads no longer header."""


_HEADERS: dict[tuple[int, int], tuple[int, Callable[[IO[bytes]], tuple[tuple[int, ...], bool, np.dtype[Any]]]]] = {
    (1, 0): (2, np.lib.format.read_array_header_1_0),
    (2, 0): (4, np.lib.format.read_array_header_2_0),
}


@dataclass(frozen=True)
class Header:
    """The shape, type and order of an array, and where in the file it begins."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    offset: int


def read_header(where: str, file: IO[bytes], size: int, kinds: str) -> Header:
    """Read the header of a ``.npy`` file of ``size`` bytes, up to where the array begins.

    Raises:
        DataError: it is none, its values are not of one of NumPy's ``kinds``, or the file is shorter than it says.
    """
    magic = file.read(8)
    version = (magic[6], magic[7]) if magic.startswith(b"\x93NUMPY") and len(magic) == 8 else None
    if version not in _HEADERS:
        raise DataError(f"{where}: not a .npy array" + (f", or of format {version[0]}.{version[1]}" if version else ""))
    width, parse = _HEADERS[version]
    length = file.read(width)
    header_size = int.from_bytes(length, "little")
    if header_size > MAX_HEADER:
        raise DataError(f"{where}: a header of {header_size} bytes is damaged")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that Python 2 wrote
            shape, fortran_order, dtype = parse(io.BytesIO(length + file.read(header_size)))
    except HEADER_ERRORS as error:
        raise DataError(f"{where}: not a .npy array ({error})") from error
    if dtype.hasobject and "O" not in kinds:
        raise DataError(f"{where}: holds Python objects, not numbers: save numbers, or a file for each clip")
    if dtype.kind not in kinds or dtype.itemsize == 0 or min(shape, default=0) < 0:
        raise DataError(f"{where}: shape {shape} of {dtype} is no array of numbers")
    offset = 8 + width + header_size
    expected = offset + math.prod(shape) * dtype.itemsize
    if dtype.kind != "O" and expected > size:
        raise DataError(f"{where}: shape {shape} of {dtype} makes {expected} bytes, but there are {size}: cut short?")
    return Header(shape, dtype, fortran_order, offset)


def check_text(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array, of any dtype and shape, after a look at its text: NumPy ends in SystemError over what is none.

    Raises:
        ValueError: it holds text with a number that is no character of Unicode.
    """
    if array.dtype.kind == "U" and array.size:
        codes = np.ascontiguousarray(array).reshape(-1).view(np.dtype("u4").newbyteorder(array.dtype.byteorder))
        if codes.max() > sys.maxunicode:
            raise ValueError(f"text with character {codes.max()}, which does not exist")
    return array
