"""Data sets kept as ``train_data.npy``, ``train_label.pkl``, ``train_num_frame.npy``, ``val_data.npy``, ..."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crrl_fast.data.readers.arrays import Array, open_npy
from crrl_fast.data.readers.labels import Labels, labels_of, read_labels, unlabelled
from crrl_fast.data.readers.parts import Part, protocol_of
from crrl_fast.data.readers.pickles import are_names, load_pickle
from crrl_fast.errors import DataError
from crrl_fast.files import check_link

_DATA = re.compile(r"(?P<part>.+)_(?P<kind>data|data_joint|position)\.npy")
_PARTS = ("train", "val", "valid", "eval", "test")


@dataclass(frozen=True)
class DataFile:
    """One file of clips.

    Attributes:
        path: of the file.
        part: what its name begins with, ``train`` for instance.
        kind: what its name ends with: ``data``, ``data_joint`` or ``position``; empty for a name of its own.
    """

    path: Path
    part: str
    kind: str

    def beside(self, suffix: str) -> Path:
        """Return the path of the same part's other file, ``label.npy`` for instance."""
        return self.path.with_name(f"{self.part}_{suffix}")


def find_data_files(source: Path) -> list[DataFile]:
    """Return the data files of a source: a file, a folder of parts, or a folder that holds only one such folder.

    Training comes first.

    Raises:
        DataError: there is none, or several that exclude each other; the message names them.
    """
    if source.is_file():
        match = _DATA.fullmatch(source.name)
        return [DataFile(source, match["part"], match["kind"]) if match else DataFile(source, source.stem, "")]
    try:
        folders = {folder: _parts_in(folder) for folder in (source, *sorted(source.iterdir())) if folder.is_dir()}
    except OSError as error:
        raise DataError(f"{source}: cannot be listed ({error})") from error
    found = [folder for folder, files in folders.items() if files]
    if not found:
        raise DataError(f"{source}: holds no train_data.npy or the like")
    if folders[source]:
        found = [source]
    if len(found) > 1:
        raise DataError(f"{source}: holds several data sets or protocols; name one: {', '.join(map(str, found))}")
    files = folders[found[0]]
    parts = [file.part for file in files]
    if len(set(parts)) < len(parts):
        names = ", ".join(file.path.name for file in files)
        raise DataError(f"{found[0]}: holds the same clips twice ({names}); name one file, or move one kind elsewhere")
    return files


def protocol_of_files(files: Sequence[DataFile]) -> str:
    """Return the protocol that the folder of the files is named after, ``file`` where it is not."""
    return protocol_of(files[0].path.parent.name)


def read_part(file: DataFile, data: Array) -> Part:
    """Return a part with the labels, names and lengths that lie beside its data file, where they do.

    Raises:
        DataError: they are damaged, or not as many as there are clips.
    """
    labels, names = _read_labels(file, len(data))
    lengths = file.beside("num_frame.npy")
    return Part(file.part, data, labels, names, _read_lengths(lengths, len(data)) if lengths.is_file() else None)


def _parts_in(folder: Path) -> list[DataFile]:
    for path in (*folder.glob("*.npy"), *folder.glob("*.pkl")):
        check_link(path, folder)
    matches = [(path, _DATA.fullmatch(path.name)) for path in sorted(folder.glob("*.npy"))]
    files = [DataFile(path, match["part"], match["kind"]) for path, match in matches if match]
    return sorted((file for file in files if file.part in _PARTS), key=lambda file: _PARTS.index(file.part))


def _read_labels(file: DataFile, clips: int) -> tuple[Labels, list[str] | None]:
    pickled, plain = file.beside("label.pkl"), file.beside("label.npy")
    if not pickled.is_file():
        return (read_labels(open_npy(plain), clips) if plain.is_file() else unlabelled(str(file.path), clips)), None
    content = load_pickle(pickled)
    names = None
    if isinstance(content, list | tuple) and len(content) == 2 and isinstance(content[0], list | tuple | np.ndarray):
        if not are_names(content[0]):
            raise DataError(f"{pickled}: its first part holds something other than names of clips")
        names, content = [name.removesuffix(".skeleton") for name in content[0]], content[1]
    if not isinstance(content, list | tuple | np.ndarray) or (isinstance(content, np.ndarray) and content.ndim == 0):
        raise DataError(f"{pickled}: holds a {type(content).__name__}, expected (names, labels)")
    if len(content) != clips or len(names or content) != clips:
        raise DataError(
            f"{pickled}: {len(content)} labels and {len(names or [])} names, but {file.path.name} has {clips} clips"
        )
    return labels_of(str(pickled), content), names


def _read_lengths(path: Path, clips: int) -> list[int]:
    array = open_npy(path)
    if array.dtype.kind not in "iu" or array.shape not in ((clips,), (clips, 1)):
        raise DataError(
            f"{path}: {array.dtype} of shape {array.shape}, expected a whole number for each of {clips} clips"
        )
    return [int(length.item()) for length in array.load()]
