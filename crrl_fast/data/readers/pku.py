"""PKU-MMD, part I (``pku1``) and part II (``pku2``): long sequences as text, cut into clips by their labels.

The data set is Liu, Hu, Li, Song, Liu, 2017 (arXiv 1703.07475): 51 actions before three Kinects v2. A source holds
skeleton files, ``0002-L.txt`` in part I and ``A10N08-L.txt`` in part II (action list, subject, camera L, M or R), 150
numbers a line: two bodies of 25 joints, the second zero where there is one. A folder with "label" in its name holds a
file of the same name for each: ``class,start,end,confidence`` on a line, the annotator's confidence unused here.

The data set does not say how its labels count frames. Here they count from 0 and the end is exclusive: labels have
starts of 0, the official evaluation takes ``end - start`` for a length, and most converters cut so. (AimCLR's counts
from 1 with the end inclusive, and so has one frame more at the start of a clip.) An end beyond the last frame is cut
back to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from crrl_fast.data.clip import UNKNOWN, Clip
from crrl_fast.data.layouts import NTU25
from crrl_fast.data.readers.base import Reader, Request
from crrl_fast.data.readers.pku_protocol import (
    CLASS_NAMES,
    TITLES,
    Origin,
    list_kind,
    parse_list,
    parse_name,
    splits_of,
)
from crrl_fast.data.readers.source import list_files, open_source
from crrl_fast.data.readers.table import parse_table, text_lines
from crrl_fast.data.recording import Recording
from crrl_fast.errors import DataError

FPS = 30.0
BODIES = 2


@dataclass(frozen=True)
class _Files:
    """Paths inside the source of one part: of skeletons, of labels by the sequence's name, of split lists by kind."""

    skeletons: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    lists: dict[str, str] = field(default_factory=dict)


def recognise(source: Path) -> str | None:
    """Look for files named as those of part I or II."""
    paths = list_files(source)
    found = []
    for part, title in TITLES.items():
        files = _files_of(part, paths)
        if files.skeletons:
            labels = f"{len(files.labels)} label files" if files.labels else "no labels, so each is one clip"
            found.append(f"{title}: {len(files.skeletons)} sequences, {labels}")
    return "; ".join(found) or None


def read(request: Request) -> Recording:
    """Read the zip or folder in the order of the skeleton files' paths; the data set's name chooses the part.

    Where there is no label file at all, each sequence is one clip without a label. A clip in which no body is seen is
    skipped. Problems name the file, and the line of a label or the frame of a skeleton.

    Raises:
        DataError: the source holds no file of that part, or of both where the name says neither, or a split list is
            malformed.
    """
    paths = list_files(request.source)
    part = _part_of(request, paths)
    files = _files_of(part, paths)
    lists: dict[str, dict[str, int]] = {}
    count = 0 if files.labels else len(files.skeletons)
    with open_source(request.source, ".txt") as opened:
        read_file = dict(opened)
        for kind, path in files.lists.items():
            lists[kind] = parse_list(f"{request.source}: {path}", read_file[path]())
        for path in files.labels.values():
            with suppress(DataError):  # reported where its clips are read
                count += len(text_lines(read_file[path]()))
    return Recording(
        NTU25,
        _clips(request, part, files, lists.get("subject")),
        count,
        CLASS_NAMES if files.labels else (),
        FPS,
        splits_of(f"{request.source}: {files.lists.get('view')}", lists.get("view")),
    )


READER = Reader("pku-mmd", "PKU-MMD I and II, skeleton text and label text", recognise, read)


def _part_of(request: Request, paths: list[str]) -> str:
    """Return the part that the data set's name says, or else the only one that the source holds."""
    held = [part for part in TITLES if _files_of(part, paths).skeletons]
    if request.dataset in held:
        return request.dataset
    if len(held) == 1 and request.dataset not in TITLES:
        return held[0]
    if not held:
        raise DataError(f"{request.source}: holds no skeleton file named like 0002-L.txt or A10N08-L.txt")
    raise DataError(
        f"{request.source}: holds {' and '.join(TITLES[part] for part in held)}: "
        f"call the data set {' or '.join(held)}, not {request.dataset!r}"
    )


def _files_of(part: str, paths: Iterable[str]) -> _Files:
    files = _Files()
    for path in sorted(paths):
        pure = PurePosixPath(path)
        if pure.suffix != ".txt":
            continue
        kind = list_kind(part, pure.stem)
        if kind is not None:
            files.lists[kind] = path
        elif parse_name(part, pure.stem) is not None:
            if "label" in pure.parent.as_posix().lower():
                files.labels[pure.stem] = path
            else:
                files.skeletons.append(path)
    return files


@dataclass(frozen=True)
class _Segment:
    """One clip of a sequence: frames ``start`` up to, not including, ``end``."""

    name: str
    start: int
    end: int
    label: int = UNKNOWN


def _clips(request: Request, part: str, files: _Files, folds: Mapping[str, int] | None) -> Iterator[Clip]:
    for name in sorted(files.labels.keys() - {PurePosixPath(path).stem for path in files.skeletons}):
        request.report(DataError(f"{request.source}: {files.labels[name]}: there is no skeleton file {name}.txt"))
    with open_source(request.source, ".txt") as opened:
        read_file = dict(opened)
        for path in files.skeletons:
            name, where = PurePosixPath(path).stem, f"{request.source}: {path}"
            origin = parse_name(part, name)
            if origin is None:
                continue
            if folds is not None:
                origin = replace(origin, fold=folds.get(name, UNKNOWN))
            try:
                frames = parse_table(where, text_lines(read_file[path]()), {BODIES * NTU25.num_joints * 3})
                segments = [_Segment(name, 0, len(frames))]
                if files.labels:
                    segments = list(_segments(request, files, name, len(frames), read_file))
            except DataError as problem:
                request.report(problem)
                continue
            for segment in segments:
                yield from _cut(request, where, frames, segment, origin)


def _segments(
    request: Request, files: _Files, name: str, length: int, read_file: Mapping[str, Callable[[], bytes]]
) -> Iterator[_Segment]:
    """Yield the segments of a sequence of ``length`` frames, in the order of its labels; report lines that are none."""
    if name not in files.labels:
        raise DataError(f"{request.source}: there are label files, but no {name}.txt for the sequence of that name")
    where = f"{request.source}: {files.labels[name]}"
    for number, line in enumerate(text_lines(read_file[files.labels[name]]()), 1):
        try:
            yield _parse_segment(f"{where}: line {number}", f"{name}_{number:03d}", line, length)
        except DataError as problem:
            request.report(problem)


def _parse_segment(where: str, name: str, line: str, length: int) -> _Segment:
    try:
        action, start, end = (int(item) for item in line.split(",")[:3])
    except ValueError:
        raise DataError(f"{where}: {line[:60]!r} is not `class,start,end,confidence` with whole numbers") from None
    if not 1 <= action <= len(CLASS_NAMES):
        raise DataError(f"{where}: class {action} is not from 1 to {len(CLASS_NAMES)}")
    if not 0 <= start < min(end, length):
        raise DataError(f"{where}: frames {start} to {end} are no part of a sequence of {length} frames")
    return _Segment(name, start, min(end, length), action - 1)


def _cut(
    request: Request, where: str, frames: npt.NDArray[np.float64], segment: _Segment, origin: Origin
) -> Iterator[Clip]:
    """Yield the clip of a segment; skip it where it has no body, report it where it has a value that is not finite."""
    with np.errstate(over="ignore"):  # a value beyond float32 becomes inf, and is reported below
        coords = frames[segment.start : segment.end].astype(np.float32).reshape(-1, BODIES, NTU25.num_joints, 3)
    finite = np.isfinite(coords)
    if not finite.all():
        frame, body, joint, axis = np.argwhere(~finite)[0]
        request.report(
            DataError(
                f"{where}: line {segment.start + frame + 1}: {coords[frame, body, joint, axis]} for body {body}, "
                f"joint {NTU25.joints[joint]!r}, coordinate {'xyz'[axis]}, in clip {segment.name!r}"
            )
        )
    elif coords.any():
        yield Clip(segment.name, coords, segment.label, origin.subject, origin.camera, fold=origin.fold)
    else:
        request.skip(segment.name, "no body is seen in it")
