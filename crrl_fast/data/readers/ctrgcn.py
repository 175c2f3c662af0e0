"""CTR-GCN's layout, also MAMP's: ``x_train``, ``y_train``, ``x_test`` and ``y_test`` in an ``.npz``."""

from __future__ import annotations

from pathlib import Path

from crrl_fast.data.layouts import NTU25, Layout
from crrl_fast.data.readers.arrays import Array, open_npz
from crrl_fast.data.readers.base import Reader, Request
from crrl_fast.data.readers.joints import layout_of_joints, layout_of_numbers
from crrl_fast.data.readers.labels import read_labels, unlabelled
from crrl_fast.data.readers.parts import Coords, Part, as_bodies, protocol_of, record, to_float32
from crrl_fast.data.recording import Recording
from crrl_fast.errors import DataError

_PARTS = ("train", "val", "test")
# Kinect v2, which all data sets of 25 joints in this layout were recorded with.
_FPS = 30.0


def recognise(source: Path) -> str | None:
    """Look for an archive with ``x_train`` and ``x_test`` of 3 or 5 axes."""
    if not source.is_file():
        return None
    try:
        clips = _clip_arrays(source)
    except DataError:
        return None
    return f"CTR-GCN layout: {', '.join(f'x_{part} {array.shape}' for part, array in clips.items())}"


def read(request: Request) -> Recording:
    """Read the archive clip by clip.

    A clip is (T, M * V * 3), (T, M, V, 3) or (3, T, V, M), and ends with its last frame that is not all zeros. A part
    may be empty; where there is no ``y_``, labels are unknown. The split is named after the file: ``NTU60_CS.npz``
    gives ``xsub``.
    """
    clips = _clip_arrays(request.source)
    filled = [array for array in clips.values() if len(array)]
    if not filled:
        raise DataError(f"{request.source}: holds no clip")
    layouts = {_layout(request, array) for array in filled}
    if len(layouts) > 1 or len({array.shape[2:] for array in filled}) > 1:
        raise DataError(f"{request.source}: its parts differ: {', '.join(str(array.shape) for array in filled)}")
    layout = layouts.pop()

    def coords_of(row: object) -> Coords:
        coords = to_float32(row)
        if coords.ndim == 2:
            return as_bodies(coords, layout)
        return coords if coords.shape[-1] == 3 else coords.transpose(1, 3, 2, 0)

    arrays = open_npz(request.source)
    parts = [
        Part(part, data, read_labels(labels, len(data)) if labels else unlabelled(data.where, len(data)))
        for part, data in clips.items()
        for labels in [arrays.get(f"y_{part}")]
    ]
    fps = _FPS if layout == NTU25 else None
    return record(request, parts, layout, coords_of, protocol=protocol_of(request.source.stem), fps=fps)


def _clip_arrays(path: Path) -> dict[str, Array]:
    arrays = open_npz(path)
    clips = {part: arrays[f"x_{part}"] for part in _PARTS if f"x_{part}" in arrays}
    if not clips:
        raise DataError(f"{path}: holds {', '.join(arrays) or 'no array'}, expected x_train, y_train, x_test, y_test")
    for array in clips.values():
        if array.dtype.kind not in "biuf" or (len(array) and len(array.shape) not in (3, 5)):
            raise DataError(
                f"{array.where}: {array.dtype} of shape {array.shape}, expected numbers (N, T, D), (N, T, M, V, 3) or "
                "(N, 3, T, V, M)"
            )
    return clips


def _layout(request: Request, array: Array) -> Layout:
    if len(array.shape) == 3:
        return layout_of_numbers(request, array.where, array.shape[2])
    if (array.shape[4] == 3) == (array.shape[1] == 3):
        raise DataError(f"{array.where}: shape {array.shape} may be (N, T, M, V, 3) or (N, 3, T, V, M), or neither")
    return layout_of_joints(request, array.where, array.shape[3])


READER = Reader("ctr-gcn", "CTR-GCN, MAMP: .npz with x_train, y_train, x_test, y_test", recognise, read)
