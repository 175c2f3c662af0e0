"""PYSKL's and mmaction2's layout: one pickle with ``split`` and ``annotations``, or an older list of annotations alone.

An annotation is a dict with ``frame_dir``, ``label`` and ``keypoint`` (M, T, V, C). The format is described in
``tools/data/README.md`` at github.com/kennymckormick/pyskl.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crrl_fast.data.class_names import class_names_for
from crrl_fast.data.clip import Clip
from crrl_fast.data.layouts import Layout
from crrl_fast.data.readers.base import Reader, Request
from crrl_fast.data.readers.joints import layout_of_joints
from crrl_fast.data.readers.labels import labels_of
from crrl_fast.data.readers.ntu_names import clip_fields
from crrl_fast.data.readers.parts import Coords, to_float32, with_z
from crrl_fast.data.readers.pickles import are_names, load_pickle
from crrl_fast.data.readers.pyskl_splits import fold_of, folds_of
from crrl_fast.data.recording import Recording
from crrl_fast.errors import DataError
from crrl_fast.files import open_regular

_SUFFIXES = (".pkl", ".pickle")
_HEAD = 1 << 16
_MARKS = (b"annotations", b"frame_dir", b"keypoint")
# Every clip is padded to the bodies of the fullest one; a damaged one must not fill the disk.
_MAX_BODIES = 32


def recognise(source: Path) -> str | None:
    """Look for the keys of an annotation at the beginning of a pickle."""
    if source.suffix not in _SUFFIXES or not source.is_file():
        return None
    try:
        with open_regular(source) as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    # The lists of `split` may fill the beginning of the file.
    return "PYSKL annotations" if any(mark in head for mark in (*_MARKS, b"split")) else None


def read(request: Request) -> Recording:
    """Read the pickle, which is in memory as a whole.

    2D keypoints stay in pixels and get z = 0; scores are not read. A clip with fewer bodies than another is padded with
    zeros. All lists of ``split`` survive (see ``pyskl_splits``).
    """
    annotations, lists = _load(request.source)
    folds, splits = folds_of(lists)
    names = [annotation.get("frame_dir") for annotation in annotations]
    if not are_names(names):
        raise DataError(f"{request.source}: an annotation has no name (`frame_dir`)")
    for name in sorted(folds.keys() - set(names)):
        request.skip(name, "a split names it, but no annotation")
    labels = labels_of(str(request.source), [annotation.get("label") for annotation in annotations])
    shapes = [_shape(annotation) for annotation in annotations]
    first = next((shape for shape in shapes if shape), None)
    if first is None:
        raise DataError(
            f"{request.source}: no annotation has a `keypoint` array (bodies, frames, joints, 2 or 3); for "
            "Kinetics-400, PYSKL keeps them in separate files, which are not read"
        )
    layout = layout_of_joints(request, str(request.source), first[2])
    bodies = max(shape[0] for shape in shapes if shape)

    def clips() -> Iterator[Clip]:
        for i, (name, annotation) in enumerate(zip(names, annotations, strict=True)):
            try:
                coords = _coords(annotation, layout, bodies)
                label = labels.at(i)
            except DataError as problem:
                request.report(DataError(f"{request.source}: annotation {i} ({name!r}) {problem}"))
                continue
            if coords.any():
                yield Clip(name=name, coords=coords, label=label, fold=fold_of(folds, name), **clip_fields(name))
            else:
                request.skip(name, "no body was ever seen")

    return Recording(
        layout=layout,
        clips=clips(),
        count=len(annotations),
        class_names=class_names_for(request.dataset, labels.count),
        splits=splits,
    )


def _load(path: Path) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Return the annotations, and the lists of clip names by their name."""
    content = load_pickle(path)
    annotations = content.get("annotations") if isinstance(content, dict) else content
    lists = content.get("split", {}) if isinstance(content, dict) else {}
    if not isinstance(annotations, list) or not all(isinstance(annotation, dict) for annotation in annotations):
        raise DataError(f"{path}: holds no list of annotations")
    if not isinstance(lists, dict) or not are_names([*lists]) or not all(map(are_names, lists.values())):
        raise DataError(f"{path}: its `split` is not a dict of lists of names")
    return annotations, lists


def _shape(annotation: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the shape of the keypoints where they can be a clip."""
    keypoint = annotation.get("keypoint")
    if not isinstance(keypoint, np.ndarray) or keypoint.ndim != 4 or keypoint.dtype.kind not in "biuf":
        return None
    return keypoint.shape if keypoint.shape[0] <= _MAX_BODIES and keypoint.shape[3] in (2, 3) else None


def _coords(annotation: Mapping[str, Any], layout: Layout, bodies: int) -> Coords:
    shape = _shape(annotation)
    if shape is None or shape[2] != layout.num_joints:
        found = getattr(annotation.get("keypoint"), "shape", "another shape")
        raise DataError(
            f"has keypoints of {found}, expected (up to {_MAX_BODIES}, frames, {layout.num_joints}, 2 or 3) numbers"
        )
    frames = annotation.get("total_frames")
    if isinstance(frames, int | np.integer) and frames != shape[1]:
        given = frames if 0 <= frames < 1 << 40 else "absurd"  # Python does not print a number of many digits
        raise DataError(f"has {shape[1]} frames, but its total_frames is {given}")
    coords = with_z(to_float32(annotation["keypoint"]).transpose(1, 0, 2, 3))
    return np.pad(coords, ((0, 0), (0, bodies - shape[0]), (0, 0), (0, 0)))


READER = Reader("pyskl", "PYSKL, mmaction2: a pickle with `split` and `annotations`", recognise, read)
