"""Clips from anywhere, brought into the format of the frames that a run was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crrl_fast.data.clip import Clip
from crrl_fast.data.fitting import check_layout
from crrl_fast.data.frame_format import FrameFormat
from crrl_fast.data.recording import Recording, Report
from crrl_fast.errors import DataError


def list_arrays(arrays: Iterable[npt.ArrayLike | Tensor]) -> list[npt.ArrayLike | Tensor]:
    """Return the clips of a list of them, unread.

    Raises:
        DataError: it is a single array, whose first axis may be clips or frames, or no list at all.
    """
    is_array = isinstance(arrays, Tensor) or (isinstance(arrays, np.ndarray) and arrays.dtype != object)
    if is_array or isinstance(arrays, (str, bytes, Mapping)) or not isinstance(arrays, Iterable):
        shape = getattr(arrays, "shape", None)
        what = type(arrays).__name__ if shape is None else f"one array of shape {tuple(shape)}"
        raise DataError(f"expected a list of clips, got {what}: pass [clip] for one clip, list(batch) for several")
    return list(arrays)


def arrays_recording(arrays: Iterable[npt.ArrayLike | Tensor], frames: FrameFormat) -> Recording:
    """Return arrays as a recording whose clips are called ``arrays[0]``, ``arrays[1]`` and so on.

    Args:
        arrays: one (T, V, 3) or (T, m, V, 3) array a clip, of any real type, with m of the M bodies.
        frames: the layout and the bodies M; those that a clip lacks are added as absent.

    Raises:
        DataError: while the clips are read, one of them is malformed.
    """

    def clips() -> Iterator[Clip]:
        for i, array in enumerate(arrays):
            name = f"arrays[{i}]"
            yield Clip(name, _fit(name, _to_numpy(name, array), frames))

    return Recording(frames.layout, clips())


def fit_recording(recording: Recording, frames: FrameFormat, dataset: str, report: Report) -> Recording:
    """Return a recording with absent bodies added to clips that have fewer than M.

    Args:
        recording: what a reader found.
        frames: the layout and the bodies M.
        dataset: its name, for messages.
        report: gets what is wrong with a clip; where it returns, the clip is left out.

    Raises:
        DataError: the recording has another layout; or ``report`` raises, while the clips are read.
    """
    check_layout(dataset, recording.layout, frames.layout)

    def clips() -> Iterator[Clip]:
        for clip in recording.clips:
            try:
                fitted = replace(clip, coords=_fit(f"clip {clip.name!r}", clip.coords, frames))
            except DataError as problem:
                report(problem)
            else:
                yield fitted

    return replace(recording, clips=clips())


def _to_numpy(name: str, array: npt.ArrayLike | Tensor) -> npt.NDArray[np.float32]:
    if isinstance(array, Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.dtype == torch.bfloat16 else array).numpy()  # NumPy has no bfloat16
    try:
        values = np.asarray(array)
    except ValueError as error:  # nested lists of different lengths
        raise DataError(f"{name} is no array: its frames or joints are lists of different lengths") from error
    if values.dtype.kind not in "fiu":
        raise DataError(f"{name} holds {values.dtype} and not real numbers: pass coordinates as floats")
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused as a value that is not finite
        return values.astype(np.float32, copy=False)


def _fit(what: str, coords: npt.NDArray[np.float32], frames: FrameFormat) -> npt.NDArray[np.float32]:
    """Return coordinates (T, V, 3) or (T, m, V, 3) as (T, M, V, 3)."""
    joints, shape = frames.layout.num_joints, coords.shape
    if coords.ndim == 3:
        coords = coords[:, None]
    if coords.ndim != 4 or shape[-1] != 3:
        cure = "pass a list of such clips" if coords.ndim != 4 else "give 2D joints z = 0" if shape[-1] == 2 else ""
        expected = f"expected (frames, {joints}, 3) or (frames, bodies, {joints}, 3)"
        raise DataError(f"{what} has shape {shape}, {expected}" + (cure and f": {cure}"))
    count, bodies = coords.shape[:2]
    if not count:
        raise DataError(f"{what} has no frame (shape {shape}): leave it out")
    if shape[-2] != joints:
        raise DataError(
            f"{what} has {shape[-2]} joints (shape {shape}), but the run was trained on {joints}, those of layout "
            f"{frames.layout.name!r}: bring it into that layout"
        )
    if not 1 <= bodies <= frames.bodies:
        cure = f"keep at most {frames.bodies}, for instance clip[:, :{frames.bodies}]" if bodies else "leave it out"
        raise DataError(
            f"{what} has {bodies} bodies (shape {shape}), but the run was trained on {frames.bodies}: {cure}"
        )
    if bodies == frames.bodies:
        return coords
    return np.pad(coords, ((0, 0), (0, frames.bodies - bodies), (0, 0), (0, 0)))
