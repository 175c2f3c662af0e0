"""The functions and types of NumPy and Python that a pickle may name, each with its arguments checked.

They build what NumPy 1 and 2 pickle, in every protocol. All raise ValueError or TypeError where an argument is not what
NumPy writes; those that copy say so to ``spend``, which ends what copies more than a file can hold.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crrl_fast.data.readers.npy_header import check_text

PLAIN_KINDS = "biufSUO"
"""The kinds of NumPy dtypes that are read: bool, integers, floats, bytes, text, objects."""

Spend = Callable[[int], None]
AnyArray = npt.NDArray[Any]

_MAX_DIMENSIONS = 32
# Marks an array whose content is still to come; no dtype that is read equals it.
_UNFILLED = np.dtype("V1")
# The hash of a deeply nested tuple overflows the C stack; no data set has tuples as keys.
_KEYS = (str, bytes, int, float, bool, type(None), np.generic)


@dataclass(frozen=True)
class Named:
    """Stands on the stack for the function or type that a pickle named."""

    module: str
    name: str

    def __str__(self) -> str:
        """Return ``module.name``."""
        return f"{self.module}.{self.name}"


def keys(items: Iterable[Any]) -> Iterable[Any]:
    """Yield the keys of a dict or items of a set, each of them checked."""
    for item in items:
        if not isinstance(item, _KEYS):
            raise ValueError(f"a {type(item).__name__} as a key")
        yield item


def set_array_state(spend: Spend, array: AnyArray, state: tuple[Any, ...]) -> None:
    """Give an empty array its shape, dtype and content."""
    version, shape, dtype, fortran, raw = state
    if array.dtype != _UNFILLED:
        raise ValueError("an array that is filled twice")
    shape = _checked_shape(shape)
    if isinstance(raw, str):  # Python 2 wrote bytes so
        raw = raw.encode("latin1")
    if version != 1 or not isinstance(dtype, np.dtype):
        raise ValueError("an array without a dtype")
    count = math.prod(shape)
    if dtype.kind == "O":
        if not isinstance(raw, list) or len(raw) != count:
            raise ValueError("an object array without its objects")
        # Freeing arrays of arrays of arrays overflows the C stack; an unfilled one may yet become one.
        if any(isinstance(item, np.ndarray) and item.dtype.kind not in PLAIN_KINDS.replace("O", "") for item in raw):
            raise ValueError("an object array within an object array")
        spend(count)
    else:
        if not isinstance(raw, bytes) or len(raw) != count * dtype.itemsize:
            raise ValueError("an array and its bytes differ in size")
        spend(len(raw))
    array.__setstate__((1, shape, dtype, bool(fortran), raw))  # type: ignore[arg-type]
    check_text(array)


def set_dtype_state(dtype: np.dtype[Any], state: tuple[Any, ...]) -> None:
    """Set the byte order of a dtype; sizes and flags stay as NumPy knows them: others would corrupt memory."""
    _, order, *described = state
    if order not in ("<", ">", "=", "|") or any(part is not None for part in described[:3]):
        raise ValueError("a dtype with fields")
    own = list(dtype.__reduce__()[2])
    own[1] = order
    dtype.__setstate__(tuple(own))  # type: ignore[attr-defined]


def _empty_array(spend: Spend, kind: object, shape: object, code: object) -> AnyArray:
    if kind != Named("numpy", "ndarray") or shape != (0,):
        raise ValueError("an array that does not begin empty")
    return np.empty(0, _UNFILLED)


def _buffer_array(spend: Spend, raw: object, dtype: object, shape: object, order: object) -> AnyArray:
    shape = _checked_shape(shape)
    if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, np.dtype) or dtype.kind == "O":
        raise ValueError("an array without its bytes")
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise ValueError("an array and its bytes differ in size")
    return check_text(np.frombuffer(raw, dtype=dtype).reshape(shape, order="F" if order == "F" else "C"))


def _scalar(spend: Spend, dtype: object, raw: object) -> Any:  # noqa: ANN401
    if not isinstance(dtype, np.dtype) or dtype.kind == "O":
        raise ValueError("a number without a plain dtype")
    if not isinstance(raw, bytes) or len(raw) != dtype.itemsize:
        raise ValueError("a number and its bytes differ in size")
    return check_text(np.frombuffer(raw, dtype=dtype))[0]


def _dtype(spend: Spend, code: object, *flags: object) -> np.dtype[Any]:
    if not isinstance(code, str) or re.fullmatch(rf"[<>|=]?[{PLAIN_KINDS}]\d{{1,9}}", code) is None:
        raise ValueError("a dtype that is not plain")
    dtype: np.dtype[Any] = np.dtype(code, copy=True)  # setting its byte order must not reach NumPy's own
    if dtype.itemsize == 0:
        raise ValueError("a dtype of no size")
    return dtype


def _encode(spend: Spend, text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes that are not written as latin-1 text")
    spend(len(text))
    return text.encode("latin1")


def _set(spend: Spend, items: object = ()) -> set[Any]:
    if not isinstance(items, list | tuple):
        raise ValueError("a set without a list of its items")
    spend(len(items))
    return set(keys(items))


def _frozenset(spend: Spend, items: object = ()) -> frozenset[Any]:
    return frozenset(_set(spend, items))


def _empty_bytes(spend: Spend) -> bytes:
    return b""


def _ordered_dict(spend: Spend) -> OrderedDict[Any, Any]:
    return OrderedDict()


def _checked_shape(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError("an array without a shape")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("an array whose shape is not whole numbers")
    return shape


# NumPy 2 moved numpy.core to numpy._core; Python 3 renamed __builtin__ to builtins.
_CALLED: dict[tuple[str, ...], dict[str, Callable[..., Any]]] = {
    ("numpy",): {"dtype": _dtype},
    ("numpy.core.multiarray", "numpy._core.multiarray"): {"_reconstruct": _empty_array, "scalar": _scalar},
    ("numpy.core.numeric", "numpy._core.numeric"): {"_frombuffer": _buffer_array},
    ("_codecs",): {"encode": _encode},
    ("builtins", "__builtin__"): {"set": _set, "frozenset": _frozenset, "bytes": _empty_bytes},
    ("collections",): {"OrderedDict": _ordered_dict},
}
FUNCTIONS: dict[Named, Callable[..., Any]] = {
    Named(module, name): function
    for modules, functions in _CALLED.items()
    for module in modules
    for name, function in functions.items()
}
"""What a pickle may call: given ``spend`` and the pickle's arguments."""

TYPES = frozenset({Named("numpy", "ndarray")})
"""What a pickle may name, but not call."""
