"""Embeddings as files: NumPy's archive, Parquet, CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import numpy as np

from crrl_fast.embedding.embeddings import Embeddings
from crrl_fast.errors import ConfigError
from crrl_fast.files import replacing


def check_table(path: Path) -> None:
    """Refuse a file that ``write_table`` cannot write, before there is anything to write.

    Raises:
        ConfigError: its suffix is not known, or a package that it needs is missing.
    """
    if path.suffix not in _WRITERS:
        raise ConfigError(f"{path}: unknown suffix {path.suffix!r}: choose {', '.join(_WRITERS)}")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"{path}: Parquet needs pyarrow ({error}): pip install 'crrl-fast[parquet]'") from error


def write_table(path: Path, embeddings: Embeddings) -> None:
    """Write embeddings to a file, by its suffix; it appears whole or not at all.

    - ``.npz``: arrays ``features`` (N, C) float32, ``names`` (N), ``labels`` (N) int64, -1 unknown, ``class_names`` (K)
      and ``lengths`` (N) int64; none needs pickle.
    - ``.parquet``: one row a clip with ``name``, ``label``, ``class`` (null where unknown), ``frames`` and ``feature``,
      a list of C float32, fixed in size: ``np.stack(frame["feature"])`` in pandas, ``.to_numpy()`` of it in polars.
    - ``.csv``: see ``write_csv``.

    Raises:
        ConfigError: see ``check_table``.
        CrrlError: the file cannot be written.
    """
    check_table(path)
    with replacing(path) as temporary:
        _WRITERS[path.suffix](temporary, embeddings)


def write_csv(stream: TextIO, embeddings: Embeddings) -> None:
    """Write one line a clip: ``name``, ``label`` (-1 unknown), ``class``, ``frames``, ``feature_0``, ``feature_1`` ...

    Text is quoted, numbers are not; they have the digits that give back the same float32. ``stream`` must leave line
    ends alone.
    """
    # All text is quoted because the module would leave a carriage return in a name bare.
    writer = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    size = embeddings.features.shape[1]
    writer.writerow(["name", "label", "class", "frames", *(f"feature_{i}" for i in range(size))])
    rows = zip(
        embeddings.names,
        embeddings.labels.tolist(),
        embeddings.classes,
        embeddings.lengths.tolist(),
        embeddings.features,
        strict=True,
    )
    for name, label, class_name, frames, feature in rows:
        # By way of their text, the numbers are those of fewest digits.
        writer.writerow([name, label, class_name or "", frames, *feature.astype(str).astype(float).tolist()])


def _write_csv_file(path: Path, embeddings: Embeddings) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        write_csv(file, embeddings)


def _write_npz(path: Path, embeddings: Embeddings) -> None:
    with path.open("wb") as file:  # NumPy would add its suffix to a name
        np.savez(
            file,
            features=embeddings.features,
            names=np.array(embeddings.names, dtype=str),
            labels=embeddings.labels,
            class_names=np.array(embeddings.class_names, dtype=str),
            lengths=embeddings.lengths,
        )


def _write_parquet(path: Path, embeddings: Embeddings) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = pa.FixedSizeListArray.from_arrays(
        pa.array(embeddings.features.ravel(), pa.float32()), embeddings.features.shape[1]
    )
    columns = {
        "name": pa.array(embeddings.names, pa.string()),
        "label": pa.array(embeddings.labels),
        "class": pa.array(embeddings.classes, pa.string()),
        "frames": pa.array(embeddings.lengths),
        "feature": features,
    }
    pq.write_table(pa.table(columns), path)


_WRITERS: dict[str, Callable[[Path, Embeddings], None]] = {
    ".npz": _write_npz,
    ".parquet": _write_parquet,
    ".csv": _write_csv_file,
}
