"""A table of labels that the user gives for files that have none."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from crrl_fast.data.info import SPLIT_FIELDS
from crrl_fast.errors import DataError
from crrl_fast.files import read_limited

_NAME_HEADINGS = ("name", "clip", "file", "filename")
_INDEX_LINE = re.compile(r"(?P<name>\d+_\d+)\s+(?P<label>\S.*)", re.ASCII)


@dataclass(frozen=True)
class LabelTable:
    """Labels by clip.

    Attributes:
        path: the file that they are from.
        labels: the label of each clip as it stands there, empty where it is unknown.
        fields: subject, camera, setup, replication and fold of each clip, as far as they are given.
    """

    path: Path
    labels: Mapping[str, str]
    fields: Mapping[str, Mapping[str, int]]

    def key(self, clip: str) -> str | None:
        """Return by which name the table has a clip: its path or the longest end of it; None where it has not."""
        parts = clip.split("/")
        ends = ("/".join(parts[i:]) for i in range(len(parts)))
        return next((end for end in ends if end in self.labels), None)

    def label(self, clip: str) -> str:
        """Return the label of a clip, empty where it is unknown or the table has not that clip."""
        key = self.key(clip)
        return "" if key is None else self.labels[key]

    def class_names(self, clips: Iterable[str]) -> list[str]:
        """Return the classes of these clips, ordered as ``order_classes`` says.

        Raises:
            DataError: the table has none of the clips.
        """
        clips = list(clips)
        if clips and all(self.key(clip) is None for clip in clips):
            raise DataError(
                f"{self.path}: labels none of the {len(clips)} clips: it names {next(iter(self.labels))!r}, "
                f"but the source {clips[0]!r}"
            )
        return order_classes(map(self.label, clips))


def read_labels(path: Path, suffixes: Iterable[str] = ()) -> LabelTable:
    """Read a CSV or, from a ``.txt``, an index like that of CMU mocap (``02_01<TAB>walk``).

    A CSV has a row ``name,label`` for each clip; with a heading row, columns of any order called ``name``, ``label``,
    ``subject``, ``camera``, ``setup``, ``replication`` and ``fold``. A label is a class's name or number; an empty one
    is unknown.

    Args:
        path: the file.
        suffixes: of clip files; a name may end in one.

    Raises:
        DataError: the file cannot be read, or a row is malformed or stands twice; the message names file and line.
    """
    try:
        text = read_limited(path, "labels").decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read the labels ({error})") from error
    rows = list(_index_rows(text)) if path.suffix == ".txt" else _csv_rows(path, text)
    texts: dict[str, str] = {}
    fields: dict[str, dict[str, int]] = {}
    for line, row in rows:
        where = f"{path}: line {line}"
        name = row["name"]
        for suffix in suffixes:
            name = name.removesuffix(suffix)
        if not name:
            raise DataError(f"{where}: has no clip name")
        if name in texts:
            raise DataError(f"{where}: clip {name!r} stands twice")
        texts[name] = row["label"]
        fields[name] = {key: _number(where, key, row[key]) for key in SPLIT_FIELDS if row.get(key)}
    if not texts:
        raise DataError(f"{path}: holds no labels")
    return LabelTable(path, texts, fields)


def order_classes(labels: Iterable[str]) -> list[str]:
    """Return the different labels, empty ones left out, in the order of their names, or numbers where all are."""
    different = {label for label in labels if label}
    if all(re.fullmatch(r"[+-]?[0-9]{1,18}", label) for label in different):
        return sorted(different, key=lambda label: (int(label), label))
    return sorted(different)


def _index_rows(text: str) -> Iterable[tuple[int, dict[str, str]]]:
    """Yield the lines of an index that name a clip; it has headings and prose between them."""
    for number, line in enumerate(text.splitlines(), 1):
        match = _INDEX_LINE.fullmatch(line.strip())
        if match is not None:
            yield number, match.groupdict()


def _csv_rows(path: Path, text: str) -> list[tuple[int, dict[str, str]]]:
    reader = csv.reader(text.splitlines())
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: not CSV ({error})") from error
    columns = ["name", "label"]
    first = [cell.lower() for cell in rows[0][1]] if rows else []
    if first and ("label" in first or first[0] in _NAME_HEADINGS):
        line, heading = rows.pop(0)
        columns = ["name" if cell.lower() in _NAME_HEADINGS else cell.lower() for cell in heading]
        unknown = [cell for cell in columns if cell not in ("name", "label", *SPLIT_FIELDS)]
        if unknown or len(set(columns)) < len(columns) or not {"name", "label"} <= set(columns):
            raise DataError(
                f"{path}: line {line}: columns {', '.join(heading)}, expected name, label and, where known, "
                f"{', '.join(SPLIT_FIELDS)}, each once"
            )
    for line, cells in rows:
        if len(cells) != len(columns):
            raise DataError(f"{path}: line {line}: {len(cells)} values, expected {len(columns)}: {', '.join(columns)}")
    return [(line, dict(zip(columns, cells, strict=True))) for line, cells in rows]


def _number(where: str, column: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise DataError(f"{where}: {column} {text[:40]!r} is not a whole number from 0")
    return int(text)
