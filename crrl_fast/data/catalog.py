"""Data sets by name: where their stores lie, and how they are prepared."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crrl_fast.data import synthetic
from crrl_fast.data.clip import Clip
from crrl_fast.data.info import Split
from crrl_fast.data.preprocess import DEFAULT_STEPS, Step
from crrl_fast.data.readers import ucla
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError, DataError

DEMO = "demo"
# Names that commands accept; those without a reader here are stores that the user made, found by the same rule.
NAMES = (DEMO, "ucla", "ntu60", "ntu120", "pku1", "pku2", "cmu")


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set before its files are read."""

    layout: str
    class_names: Sequence[str]
    fps: float
    splits: Mapping[str, Split]
    read_clips: Callable[[Path], Iterator[Clip]] | None
    """Reads its files; None for a set that is generated."""


DATA_SETS: dict[str, DataSet] = {
    DEMO: DataSet(
        synthetic.DEMO_LAYOUT, synthetic.DEMO_CLASSES, synthetic.DEMO_FPS, synthetic.DEMO_SPLITS, read_clips=None
    ),
    "ucla": DataSet(ucla.LAYOUT, ucla.CLASS_NAMES, ucla.FPS, ucla.SPLITS, ucla.read_clips),
}


def data_folder() -> Path:
    """Return the folder of prepared stores: ``$CRRL_DATA``, or ``./data``."""
    return Path(os.environ.get("CRRL_DATA", "data"))


def default_path(name: str) -> Path:
    """Return where the store of data set ``name`` lies by default."""
    return data_folder() / f"{name}.safetensors"


def prepare(name: str, source: Path | None, steps: Sequence[Step] = DEFAULT_STEPS, seed: int = 0) -> Store:
    """Read or generate data set ``name`` and preprocess it; nothing is written.

    Args:
        name: ``demo``, or a data set that has a reader.
        source: its files; None for ``demo``, which is generated.
        steps: preprocessing.
        seed: of the generated set.

    Raises:
        ConfigError: the name has no reader, or a source is missing or given where there is none.
        DataError: the source is malformed.
    """
    if name not in DATA_SETS:
        raise ConfigError(f"no reader for data set {name!r}: choose one of {', '.join(DATA_SETS)}")
    known = DATA_SETS[name]
    if known.read_clips is None:
        if source is not None:
            raise ConfigError(f"{name!r} is generated and takes no SOURCE, but got {str(source)!r}")
        clips = synthetic.demo_clips(seed)
    else:
        if source is None:
            raise ConfigError(f"{name!r} needs a SOURCE: `crrl-fast prepare {name} FOLDER_OR_ZIP`")
        clips = known.read_clips(source)
    return Store.from_clips(
        clips,
        dataset=name,
        layout=known.layout,
        class_names=known.class_names,
        fps=known.fps,
        splits=known.splits,
        steps=steps,
    )


def open_data(data: str) -> tuple[Store, Path]:
    """Open a store by data set name or path; the embedded ``demo`` is generated at its first use.

    Raises:
        DataError: there is no such store, or it is not readable; the message says how to make one.
    """
    path = Path(data)
    if path.suffix == ".safetensors" or path.is_file():
        return Store.open(path), path
    path = default_path(data)
    if not path.is_file():
        if data == DEMO:
            prepare(DEMO, None).save(path)
        elif data in DATA_SETS:
            raise DataError(f"no store {path}: make it with `crrl-fast prepare {data} SOURCE`, or set CRRL_DATA")
        else:
            raise DataError(
                f"no data set {data!r}: neither a file, nor {path}, nor one of {', '.join(NAMES)}; "
                "set CRRL_DATA to the folder of your stores"
            )
    return Store.open(path), path
