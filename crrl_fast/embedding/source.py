"""What is to be embedded: a store, or files in any layout that a reader knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from crrl_fast.data.catalog import DEMO, default_path
from crrl_fast.data.preparation import Findings, load
from crrl_fast.data.recording import Recording, raise_problem
from crrl_fast.data.store import Store
from crrl_fast.embedding.clips import fit_recording
from crrl_fast.embedding.embedder import Embedder
from crrl_fast.errors import ConfigError

PARTS = ("train", "test")


def find_files(data: str, layout: str | None = None, reader_options: Mapping[str, object] | None = None) -> Path | None:
    """Return the path of files that a reader has to read, or None where ``data`` names a store or nothing at all.

    Args:
        data: as the user gave it. A bare name is that of a store where there is one; ``./NAME`` is the folder of it.
        layout: of the files; where it is given, they are no store.
        reader_options: other options that only readers take, and their values.

    Raises:
        ConfigError: it is a store, but an option for readers is given.
    """
    path = Path(data)
    is_named_store = path.name == data and (data == DEMO or default_path(data).is_file())
    is_store = path.suffix == ".safetensors" or (is_named_store and layout is None)
    if not is_store and (layout is not None or path.exists()):
        return path
    for option, value in {"--layout": layout, **(reader_options or {})}.items():
        if value and is_store:
            raise ConfigError(f"{data}: a store, which takes no {option}: that is for files in other layouts")
    return None


def load_recording(
    embedder: Embedder,
    recording: Recording,
    findings: Findings,
    *,
    dataset: str,
    skip_bad: bool,
    on_progress: Callable[[], None] = lambda: None,
) -> Store:
    """Return a recording's clips, opened with ``findings.report`` where ``skip_bad``, as the encoder takes them.

    Clips are preprocessed as they are read, and nothing is written.

    Raises:
        DataError: it has another layout; no clip could be read; or, unless ``skip_bad``, something is wrong with one.
    """
    fitted = fit_recording(recording, embedder.frames, dataset, findings.report if skip_bad else raise_problem)
    return load(fitted, findings, dataset=dataset, steps=embedder.steps, skip_bad=skip_bad, on_progress=on_progress)


@dataclass(frozen=True)
class Part:
    """Which clips are to be embedded: all, or one part of a split.

    Attributes:
        name: ``train`` or ``test``; None is all clips.
        split: of the store; None is that which the run was trained on where the store has it, else the store's first.
    """

    name: str | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without a store.

        Raises:
            ConfigError: the part is unknown, or missing where a split is named.
        """
        if self.name is None and self.split is not None:
            raise ConfigError(f"--split {self.split}: say which part of it to embed, --part {' or '.join(PARTS)}")
        if self.name is not None and self.name not in PARTS:
            raise ConfigError(f"unknown part {self.name!r}: choose {' or '.join(PARTS)}")

    def index(self, store: Store, run_split: str | None) -> Tensor:
        """Return the clips, (N) int64; ``run_split`` is what the run was trained on.

        Raises:
            ConfigError: the part has no clip; see also ``Store.split``.
        """
        if self.name is None:
            return torch.arange(len(store))
        split = run_split if self.split is None and run_split in store.info.splits else self.split
        index = store.split(split)[PARTS.index(self.name)]
        if not len(index):
            raise ConfigError(f"the {self.name} part of data set {store.info.dataset!r} has no clips")
        return index
