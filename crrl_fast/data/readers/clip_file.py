"""One clip in a file of its own: ``.npy``, ``.npz``, ``.csv`` or ``.json``."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from crrl_fast.data.layouts import Layout
from crrl_fast.data.readers.npy import Array, open_npz, parse_npy
from crrl_fast.data.readers.table import parse_table, text_lines
from crrl_fast.errors import DataError

# Keys under which people keep the frames of a clip, or the joints of a frame.
_KEYS = ("data", "frames", "coords", "skeletons", "skeleton", "keypoints", "landmarks", "pose_landmarks", "joints")
_MAX_BODIES = 32


def parse_clip_file(where: str, suffix: str, content: bytes) -> Array:
    """Return the array of a clip's file, as it is there: (T, V, C), (T, M, V, C), or (T, V * C) from a CSV.

    Raises:
        DataError: the file is malformed; the message names it and, in a CSV, the line.
    """
    return _PARSERS[suffix](where, content)


def to_coords(where: str, array: Array, layout: Layout) -> npt.NDArray[np.float32]:
    """Return a clip's array, of a shape that ``parse_clip_file`` returns, as (T, M, V, 3); z is 0 where C is 2.

    Raises:
        DataError: it is not of that layout, or has a value that is not finite; the message names frame and joint.
    """
    joints = layout.num_joints
    if array.dtype.kind not in "iuf":
        raise DataError(f"{where}: holds {array.dtype}, not numbers")
    shape = array.shape
    if array.ndim == 2 and shape[1] in (2 * joints, 3 * joints):
        array = array.reshape(len(array), joints, -1)
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4 or array.shape[2] != joints or array.shape[3] not in (2, 3) or not len(array):
        raise DataError(
            f"{where}: shape {shape}, expected (frames, {joints}, 2 or 3) or (frames, bodies, {joints}, 2 or 3) "
            f"for joint layout {layout.name!r}"
        )
    if not 1 <= array.shape[1] <= _MAX_BODIES:
        raise DataError(f"{where}: shape {shape} makes {array.shape[1]} bodies a frame, expected 1 to {_MAX_BODIES}")
    coords = np.zeros((*array.shape[:3], 3), dtype=np.float32)
    with np.errstate(over="ignore"):  # a value beyond float32 becomes inf, and is reported below
        coords[..., : array.shape[3]] = array
    finite = np.isfinite(coords)
    if not finite.all():
        frame, body, joint, axis = np.argwhere(~finite)[0]
        raise DataError(
            f"{where}: {coords[frame, body, joint, axis]} at frame {frame}, body {body}, joint "
            f"{layout.joints[joint]!r}, coordinate {'xyz'[axis]}: repair or leave out that clip"
        )
    return coords


def _parse_npz(where: str, content: bytes) -> Array:
    with open_npz(where, io.BytesIO(content), "clip") as npz:
        keys = npz.keys
        known = [key for key in _KEYS if key in keys]
        if not known and len(keys) != 1:
            raise DataError(f"{where}: holds {', '.join(keys)[:80] or 'nothing'}, expected one array, or `data`")
        return npz.array(known[0] if known else keys[0])


def _parse_csv(where: str, content: bytes) -> Array:
    lines = text_lines(content)
    first = 1 if lines and not _all_numbers(lines[0]) else 0  # a heading
    rows = lines[first:]
    width = rows[0].count(",") + 1 if rows else 0
    return parse_table(where, rows, {width}, delimiter=",", numbers=range(first + 1, len(lines) + 1))


def _all_numbers(line: str) -> bool:
    try:
        return bool([float(item) for item in line.split(",")])
    except ValueError:
        return False


def _parse_json(where: str, content: bytes) -> Array:
    try:
        with np.errstate(over="ignore"):
            return np.array(_nested_lists(json.loads(content)), dtype=np.float64)
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise DataError(f"{where}: not a JSON clip: lists of frames of joints [x, y, z] ({error})") from error


def _nested_lists(value: Any) -> Any:  # noqa: ANN401 (JSON)
    """Return nested lists of numbers: joints may be objects with x, y and z, and lists may be wrapped in objects."""
    if isinstance(value, list):
        return [_nested_lists(item) for item in value]
    if isinstance(value, dict):
        if "x" in value and "y" in value:
            return [value[axis] for axis in "xyz" if axis in value]
        for key in _KEYS:
            if key in value:
                return _nested_lists(value[key])
        raise ValueError(f"an object with {', '.join(value)[:60] or 'nothing'}, expected x and y, or one of {_KEYS}")
    if isinstance(value, str):
        raise ValueError(f"text {value[:40]!r} in place of a number")
    return value


_PARSERS: dict[str, Callable[[str, bytes], Array]] = {
    ".npy": parse_npy,
    ".npz": _parse_npz,
    ".csv": _parse_csv,
    ".json": _parse_json,
}
SUFFIXES = tuple(_PARSERS)
