"""Data sets by name: where their stores lie, and how they are prepared."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from crrl_fast.data import synthetic
from crrl_fast.data.layouts import Layout, resolve_layout
from crrl_fast.data.loading import LoadedStore, load_store
from crrl_fast.data.preprocess import DEFAULT_STEPS, Step
from crrl_fast.data.readers import find_reader
from crrl_fast.data.readers.base import Request, ignore_skipped
from crrl_fast.data.recording import Recording, Report, raise_problem
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError, DataError

DEMO = "demo"
# Data sets that are known; stores of any other name are found by the same rule.
NAMES = (DEMO, "ucla", "ntu60", "ntu120", "pku1", "pku2", "cmu")


Opened = TypeVar("Opened")


def data_folder() -> Path:
    """Return the folder of prepared stores: ``$CRRL_DATA``, or ``./data``."""
    return Path(os.environ.get("CRRL_DATA", "data"))


def default_path(name: str) -> Path:
    """Return where the store of data set ``name`` lies by default."""
    return data_folder() / f"{name}.safetensors"


def open_recording(
    name: str,
    source: Path | None,
    *,
    layout: str | None = None,
    joints: str | None = None,
    labels: Path | None = None,
    report: Report = raise_problem,
    skip: Callable[[str, str], None] = ignore_skipped,
    workers: int | None = None,
    seed: int = 0,
) -> tuple[Recording, str]:
    """Open a foreign source, or generate ``demo``; nothing is written.

    Args:
        name: of the data set.
        source: its files; None for ``demo``, which is generated.
        layout: of the files, a name from ``readers.READERS``; None recognises it.
        joints: name or TOML file of the joint layout, where the files do not say.
        labels: a CSV of labels, where the files have none.
        report: gets what is wrong with a file or clip; where it returns, that is left out.
        skip: gets the name of a clip that the data set's own rules leave out, and why.
        workers: threads or processes for readers that use several; None is all processors.
        seed: of the generated set.

    Returns:
        The recording, and what the source was recognised as.

    Raises:
        ConfigError: a source is missing, or given where there is none, or the layout has no reader.
        DataError: the source is missing or malformed, or no reader recognises it.
    """
    if name == DEMO:
        if source is not None:
            raise ConfigError(f"{name!r} is generated and takes no SOURCE, but got {str(source)!r}")
        return synthetic.demo_recording(seed), "generated"
    if source is None:
        raise ConfigError(f"{name!r} needs a SOURCE: `crrl-fast prepare {name} FOLDER_OR_FILE`")
    return read_source(
        source,
        layout,
        dataset=name,
        joints=None if joints is None else resolve_layout(joints),
        labels=labels,
        report=report,
        skip=skip,
        workers=workers,
    )


def read_source(
    source: Path,
    layout: str | None = None,
    *,
    dataset: str,
    joints: Layout | None = None,
    labels: Path | None = None,
    report: Report = raise_problem,
    skip: Callable[[str, str], None] = ignore_skipped,
    workers: int | None = None,
) -> tuple[Recording, str]:
    """Open a foreign source, whatever its data set is called (arguments, return and errors: ``open_recording``)."""
    reader, found = find_reader(source, layout)
    request = Request(
        source=source,
        dataset=dataset,
        joints=joints,
        labels=labels,
        report=report,
        skip=skip,
        workers=workers or os.cpu_count() or 1,
    )
    return reader.read(request), found


def prepare(name: str, source: Path | None, steps: Sequence[Step] = DEFAULT_STEPS, seed: int = 0) -> Store:
    """Read or generate a data set and preprocess it in memory (see ``open_recording``)."""
    recording, _ = open_recording(name, source, seed=seed)
    return Store.from_recording(recording, dataset=name, steps=steps)


def open_data(data: str) -> tuple[Store, Path]:
    """Open a store by data set name or path; the embedded ``demo`` is generated where there is none of this version.

    Its tensors are memory-mapped, which is for a look at them: see ``load_data``.

    Raises:
        DataError: there is no such store, or it is not readable; the message says how to make one.
    """
    path = _find(data)
    return _generated(path, Store.open) if _is_embedded(data, path) else Store.open(path), path


def load_data(data: str) -> LoadedStore:
    """Read a store into memory, by data set name or path as ``open_data`` finds it.

    Raises:
        DataError: see ``open_data`` and ``loading.load_store``.
    """
    path = _find(data)
    return _generated(path, load_store) if _is_embedded(data, path) else load_store(path)


def _find(data: str) -> Path:
    path = Path(data)
    if path.suffix == ".safetensors" or path.is_file():
        return path
    path = default_path(data)
    if data != DEMO and not path.is_file():
        if data in NAMES:
            raise DataError(f"no store {path}: make it with `crrl-fast prepare {data} SOURCE`, or set CRRL_DATA")
        raise DataError(
            f"no data set {data!r}: neither a file, nor {path}, nor one of {', '.join(NAMES)}; "
            "set CRRL_DATA to the folder of your stores"
        )
    return path


def _is_embedded(data: str, path: Path) -> bool:
    return data == DEMO and path == default_path(DEMO)  # and no file of that name


def _generated(path: Path, read: Callable[[Path], Opened]) -> Opened:
    try:
        return read(path)
    except DataError:  # missing, damaged, or left by a version with another store format
        prepare(DEMO, None).save(path)
        return read(path)
