"""ST-GCN's layout, which 2s-AGCN, CrosSCLR and AimCLR took over: ``train_data.npy`` (N, C, T, V, M) and labels.

CrosSCLR and AimCLR write clips of 50 interpolated frames, relative to the spine's middle, as ``train_position.npy``.
"""

from __future__ import annotations

from pathlib import Path

from crrl_fast.data.layouts import NTU25
from crrl_fast.data.readers.arrays import Array, open_npy
from crrl_fast.data.readers.base import Reader, Request
from crrl_fast.data.readers.joints import layout_of_joints
from crrl_fast.data.readers.part_files import find_data_files, protocol_of_files, read_part
from crrl_fast.data.readers.parts import Coords, record, to_float32, with_z
from crrl_fast.data.recording import Recording
from crrl_fast.errors import DataError

# Kinect v2, which all data sets of 25 joints in this layout were recorded with.
_FPS = 30.0


def recognise(source: Path) -> str | None:
    """Look for (N, C, T, V, M) arrays in ``.npy`` files."""
    try:
        files = find_data_files(source)
        shapes = [_open(file.path).shape for file in files]
    except DataError:
        return None
    return f"ST-GCN layout: {', '.join(f'{f.path.name} {s}' for f, s in zip(files, shapes, strict=True))}"


def read(request: Request) -> Recording:
    """Read a folder of ``train_*`` and ``val_*`` files, or one file; labels and lengths lie beside.

    Without ``*_num_frame.npy`` a clip ends with its last frame that is not all zeros. Where there is no
    ``*_label.pkl`` or ``*_label.npy``, labels are unknown. Two coordinates get z = 0; so does OpenPose's third, which
    is its confidence.
    """
    files = find_data_files(request.source)
    arrays = [_open(file.path) for file in files]
    layouts = {layout_of_joints(request, array.where, array.shape[3]) for array in arrays}
    if len(layouts) > 1:
        raise DataError(f"{request.source}: its files differ in their joints")
    layout = layouts.pop()

    def coords_of(row: object) -> Coords:
        coords = to_float32(row).transpose(1, 3, 2, 0)
        return with_z(coords[..., :2] if layout.name == "openpose18" else coords)

    return record(
        request,
        [read_part(file, array) for file, array in zip(files, arrays, strict=True)],
        layout,
        coords_of,
        protocol=protocol_of_files(files),
        fps=_FPS if layout == NTU25 and all(file.kind != "position" for file in files) else None,
    )


def _open(path: Path) -> Array:
    array = open_npy(path)
    if len(array.shape) != 5 or array.dtype.kind not in "biuf" or array.shape[1] not in (2, 3):
        raise DataError(
            f"{path}: {array.dtype} of shape {array.shape}, expected numbers (clips, 2 or 3, frames, joints, bodies)"
        )
    return array


READER = Reader("st-gcn", "ST-GCN, CrosSCLR, AimCLR: *_data.npy or *_position.npy (N, C, T, V, M)", recognise, read)
