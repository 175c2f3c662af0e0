"""Anyone's own skeletons: an array of clips, or a file for each.

What is read, T frames, M bodies, V joints and C = 3 or 2 coordinates (2D gets z = 0):

- ``x.npy``: (N, T, V, C) or (N, T, M, V, C), N clips of one length; (T, V, C) is one clip. Clips are called 0, 1, ...
- ``x.npz`` with the key ``data``: the same, and, where given, ``lengths`` (N), the frames that count of each clip, and
  ``labels`` (N), numbers or names. Without ``data``, an array (T, V, C) or (T, M, V, C) a clip, called as its key.
- a folder or zip with a file for each clip, called as its path without the suffix and the folders that all share:
  ``.npy`` or ``.npz`` with one such array; ``.csv`` with a frame of V * C numbers a line, with or without a heading;
  ``.json`` with lists of frames of joints [x, y, z], or as MediaPipe's results are often kept,
  ``{"frames": [{"landmarks": [{"x": ..., "y": ...}]}]}``. Where all lie in two folders or more, a folder is a class.

Coordinates should be in metres; arrays of Python objects are refused, as reading them would run what they say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import takewhile
from pathlib import Path, PurePosixPath

from crrl_fast.data.clip import UNKNOWN, Clip
from crrl_fast.data.info import Split
from crrl_fast.data.layouts import LAYOUTS, Layout
from crrl_fast.data.readers.base import Reader, Request
from crrl_fast.data.readers.clip_file import SUFFIXES, parse_clip_file, to_coords
from crrl_fast.data.readers.label_table import LabelTable, order_classes, read_labels
from crrl_fast.data.readers.npy import Array, Npz, map_npy, open_npz
from crrl_fast.data.readers.source import file_reader, list_files, open_source
from crrl_fast.data.recording import Recording
from crrl_fast.errors import ConfigError, DataError


@dataclass(frozen=True)
class _Item:
    """A clip that is there to be read.

    Attributes:
        path: inside the source, without suffix; a table of labels may name it by its end.
        name: of the clip.
        where: it lies, for messages.
        load: reads its array.
        label: what the source itself says, empty where it says nothing.
    """

    path: str
    name: str
    where: str
    load: Callable[[], Array]
    label: str = ""


def recognise(source: Path) -> str | None:
    """Look for files by their suffix."""
    if source.suffix in (".npy", ".npz") and source.is_file():
        return f"own skeletons: arrays in {source.suffix}"
    if source.suffix in SUFFIXES and source.is_file():
        return f"own skeletons: one clip in {source.suffix}"
    paths = _clip_paths(source, None)
    if not paths:
        return None
    counts = ", ".join(
        f"{count} {suffix}" for suffix in SUFFIXES if (count := sum(path.endswith(suffix) for path in paths))
    )
    classes = set(_folder_labels(paths).values()) - {""}
    return f"own skeletons: a file for each clip ({counts})" + (
        f", {len(classes)} classes by folder" if classes else ""
    )


def read(request: Request) -> Recording:
    """Read what the module's text lists, in the order of the array or of the paths.

    Labels come from ``request.labels`` (``label_table.read_labels`` says how it is written), or else from the source;
    clips that a table does not list are unlabelled. A column ``fold`` there makes the split ``fold``: 0 is training.

    Raises:
        ConfigError: no joint layout is given.
        DataError: the source or the labels as a whole cannot be read.
    """
    table = None if request.labels is None else read_labels(request.labels, SUFFIXES)
    with _items(request) as items:
        if request.joints is None:
            raise ConfigError(_ask_for_joints(request.source, items))
        count = len(items)
        labels = (item.label for item in items)
        class_names = order_classes(labels) if table is None else table.class_names(item.path for item in items)
    has_folds = table is not None and any("fold" in fields for fields in table.fields.values())
    return Recording(
        layout=request.joints,
        clips=_clips(request, request.joints, table, class_names),
        count=count,
        class_names=class_names,
        splits={"fold": Split("fold", (0,))} if has_folds else {},
    )


READER = Reader("clips", "own skeletons: an array of clips or a file for each, npy, npz, csv or json", recognise, read)


def _clips(request: Request, joints: Layout, table: LabelTable | None, class_names: Sequence[str]) -> Iterator[Clip]:
    index = {name: i for i, name in enumerate(class_names)}
    with _items(request) as items:
        for item in items:
            key = None if table is None else table.key(item.path)
            label = item.label if table is None else table.label(item.path)
            fields = table.fields[key] if table is not None and key is not None else {}
            try:
                coords = to_coords(item.where, item.load(), joints)
            except DataError as problem:
                request.report(problem)
            else:
                yield Clip(item.name, coords, index.get(label, UNKNOWN), **fields)


@contextmanager
def _items(request: Request) -> Iterator[list[_Item]]:
    """Open the source and yield its clips, unread."""
    source = request.source
    if source.is_file() and source.suffix == ".npy":
        yield _array_items(str(source), map_npy(source))
    elif source.is_file() and source.suffix == ".npz":
        with open_npz(str(source), source) as npz:
            yield _packed_items(npz) if "data" in npz.keys else _keyed_items(npz)
    elif source.is_file() and source.suffix in SUFFIXES:
        content = file_reader(source)
        yield [
            _Item(source.stem, source.stem, str(source), lambda: parse_clip_file(str(source), source.suffix, content()))
        ]
    else:
        with open_source(source, *SUFFIXES) as files:
            read_file = dict(files)
            paths = _clip_paths(source, request.labels)
            labels = _folder_labels(paths)
            shared = _shared_folders(paths)
            yield [_file_item(source, path, shared, read_file[path], labels[path]) for path in paths]


def _file_item(source: Path, path: str, shared: int, content: Callable[[], bytes], label: str) -> _Item:
    where, pure = f"{source}: {path}", PurePosixPath(path)
    bare = pure.with_suffix("")
    name = "/".join(bare.parts[shared:])
    return _Item(bare.as_posix(), name, where, lambda: parse_clip_file(where, pure.suffix, content()), label)


def _array_items(where: str, array: Array) -> list[_Item]:
    if array.ndim == 3:
        return [_Item(Path(where).stem, Path(where).stem, where, lambda: array)]
    _check_clips(where, array.shape)
    return [_Item(str(i), str(i), f"{where}: clip {i}", partial(array.__getitem__, i)) for i in range(len(array))]


def _check_clips(where: str, shape: tuple[int, ...]) -> None:
    if len(shape) not in (4, 5):
        raise DataError(
            f"{where}: shape {shape}, expected (clips, frames, joints, 2 or 3) or "
            "(clips, frames, bodies, joints, 2 or 3)"
        )


def _packed_items(npz: Npz) -> list[_Item]:
    """Return the clips of ``data``, cut to ``lengths`` and labelled by ``labels``; ``data`` is read at the first."""
    unknown = [key for key in npz.keys if key not in ("data", "lengths", "labels")]
    if unknown:
        raise DataError(f"{npz.where}: beside `data` stand {', '.join(unknown)[:80]}, expected `lengths` and `labels`")
    shape = npz.header("data").shape
    _check_clips(f"{npz.where}: data", shape)
    count, frames = shape[:2]
    lengths = _column(npz, "lengths", "iu", count)
    labels = _column(npz, "labels", "iuSU", count)
    for i, length in enumerate(lengths):
        if not 1 <= int(length) <= frames:
            raise DataError(f"{npz.where}: lengths[{i}] is {length}, expected 1 to {frames}")
    data = cache(lambda: npz.array("data"))

    def item(i: int) -> _Item:
        length = int(lengths[i]) if lengths else frames
        label = labels[i] if labels else ""
        return _Item(str(i), str(i), f"{npz.where}: clip {i}", lambda: data()[i, :length], label)

    return [item(i) for i in range(count)]


def _column(npz: Npz, key: str, kinds: str, count: int) -> list[str]:
    """Return the texts of a value a clip, or nothing where the archive does not have them."""
    if key not in npz.keys:
        return []
    values = npz.array(key)
    if values.shape != (count,) or values.dtype.kind not in kinds:
        raise DataError(
            f"{npz.where}: {key} has shape {values.shape} of {values.dtype}, expected one for each of {count}"
        )
    return [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values.tolist()]


def _keyed_items(npz: Npz) -> list[_Item]:
    return [_Item(key, key, f"{npz.where}: {key}", partial(npz.array, key)) for key in npz.keys]


def _clip_paths(source: Path, labels: Path | None) -> list[str]:
    """Return the paths of clips inside a folder or zip, sorted; the file of labels may lie among them."""
    paths = sorted(path for path in list_files(source) if path.endswith(SUFFIXES))
    if labels is None:
        return paths
    return [path for path in paths if (source / path).resolve() != labels.resolve()]


def _shared_folders(paths: Sequence[str]) -> int:
    """Return how many leading folders all paths have in common."""
    levels = zip(*(PurePosixPath(path).parent.parts for path in paths), strict=False)
    return sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, levels))


def _folder_labels(paths: Sequence[str]) -> dict[str, str]:
    """Return the class of each path: its folder, where there are two or more and no path is outside them."""
    folders = {path: PurePosixPath(path).parent.name for path in paths}
    classes = set(folders.values())
    return folders if len(classes) > 1 and "" not in classes else dict.fromkeys(paths, "")


def _ask_for_joints(source: Path, items: Sequence[_Item]) -> str:
    """Return a message that asks for the joint layout, and proposes those that the first clip fits."""
    names = list(LAYOUTS)
    for item in items[:1]:
        shape = item.load().shape
        joints = (shape[1] / 3, shape[1] / 2) if len(shape) == 2 else shape[-2:-1]
        fitting = [layout.name for layout in LAYOUTS.values() if layout.num_joints in joints]
        if fitting:
            return f"{source}: give the joint layout of these clips, probably --joints {' or '.join(fitting)}"
    return f"{source}: give the joint layout of these clips: --joints NAME ({', '.join(names)}) or FILE.toml"
