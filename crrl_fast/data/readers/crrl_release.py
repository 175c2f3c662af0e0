"""The layout that the authors of CRRL read: ``train_data.npy``, ``train_num_frame.npy``, ``train_label.npy``, ...

File names and shapes are those of ``feeder.py`` and ``parse_args_for_*.py`` at github.com/Picasso-Wang/CRRL: NTU as
padded (N, T, D) numbers, other data sets as an array of N objects, each a clip (T, D). The reversed clips and speeds
beside them are not read: they follow from the clips. D is bodies * joints * 3, in this order; the release does not say.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crrl_fast.data.readers.arrays import Array, open_npy
from crrl_fast.data.readers.base import Reader, Request
from crrl_fast.data.readers.joints import layout_of_numbers
from crrl_fast.data.readers.part_files import find_data_files, protocol_of_files, read_part
from crrl_fast.data.readers.parts import Coords, as_bodies, record, to_float32
from crrl_fast.data.recording import Recording
from crrl_fast.errors import DataError


def recognise(source: Path) -> str | None:
    """Look for ``.npy`` files with an array of clips as objects, or (N, T, D) numbers."""
    try:
        files = find_data_files(source)
        counts = [len(_open(file.path)) for file in files]
    except DataError:
        return None
    return f"CRRL's layout: {', '.join(f'{f.path.name} of {n} clips' for f, n in zip(files, counts, strict=True))}"


def read(request: Request) -> Recording:
    """Read a folder of ``train_*`` and ``val_*`` files, or one file; labels and lengths lie beside.

    Where there is no ``*_label.npy`` (for NTU the authors keep it in another folder), labels are unknown.
    """
    files = find_data_files(request.source)
    arrays = [_held(_open(file.path)) for file in files]
    widths = {width for array in arrays for width in _widths(array)}
    if len(widths) != 1:
        raise DataError(f"{request.source}: clips have {sorted(widths)} numbers a frame, expected one and the same")
    width = widths.pop()
    layout = layout_of_numbers(request, str(request.source), width)

    def coords_of(row: object) -> Coords:
        frames = to_float32(_plain(row, width))
        if frames.ndim != 2 or frames.shape[1] != width:
            raise DataError(f"has shape {frames.shape}, expected (frames, {width})")
        return as_bodies(frames, layout)

    parts = [read_part(file, array) for file, array in zip(files, arrays, strict=True)]
    return record(request, parts, layout, coords_of, protocol=protocol_of_files(files))


def _open(path: Path) -> Array:
    array = open_npy(path)
    # Plain numbers end in D; three there are the coordinates of a joint, in a single clip (T, V, 3) of another layout.
    is_layout = (
        len(array.shape) in (1, 3)
        if array.dtype.kind == "O"
        else array.dtype.kind in "biuf" and len(array.shape) == 3 and array.shape[2] > 3
    )
    if not is_layout:
        raise DataError(
            f"{path}: {array.dtype} of shape {array.shape}, expected clips as objects, or (N, T, D) numbers"
        )
    return array


def _held(array: Array) -> Array:
    return array.held() if array.dtype.kind == "O" else array


def _widths(array: Array) -> list[int]:
    """Return the numbers a frame of the first clip; of none, where there is none."""
    if len(array.shape) == 3:
        return [array.shape[2]]
    first = next(array.rows(), None)
    if first is None:
        return []
    frame = first[0] if isinstance(first, list | np.ndarray) and len(first) else None
    if not isinstance(frame, list | np.ndarray):
        raise DataError(f"{array.where}: its first clip is no (frames, numbers) array")
    return [len(frame)]


def _plain(row: object, width: int) -> object:
    """Return a clip; one that is a list of frames is checked first: NumPy would unfold nested lists without end."""
    if isinstance(row, list):
        for frame in row:
            if not isinstance(frame, list | np.ndarray) or len(frame) != width:
                raise DataError(f"is a list of something other than frames of {width} numbers")
            if isinstance(frame, list) and not all(isinstance(x, int | float | np.number) for x in frame):
                raise DataError("holds something other than numbers")
    return row


READER = Reader("crrl", "CRRL's authors: *_data.npy, clips (T, D) as objects", recognise, read)
