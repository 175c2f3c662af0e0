"""Preparing a data set: reading its files into a store, or only checking them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crrl_fast.data.clip import Clip
from crrl_fast.data.info import StoreInfo
from crrl_fast.data.packing import Packer
from crrl_fast.data.preprocess import Step
from crrl_fast.data.recording import Recording, raise_problem
from crrl_fast.data.store import Store
from crrl_fast.data.writer import write_store
from crrl_fast.errors import DataError


@dataclass
class Findings:
    """What came up while a source was read.

    Attributes:
        problems: what is wrong with files and clips, each in a line.
        skipped: how many clips the data set's own rules left out, by reason.
        taken: clips that were read.
    """

    problems: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    taken: int = 0

    def report(self, problem: DataError) -> None:
        """Note a problem and go on without that file or clip."""
        self.problems.append(str(problem))

    def skip(self, clip: str, why: str) -> None:
        """Note a clip that is left out on purpose."""
        self.skipped[why] += 1

    @property
    def seen(self) -> int:
        """Clips and files that are done with, taken or not."""
        return self.taken + len(self.problems) + self.skipped.total()


def write(
    path: Path,
    recording: Recording,
    findings: Findings,
    *,
    dataset: str,
    steps: Sequence[Step],
    skip_bad: bool,
    on_progress: Callable[[], None] = lambda: None,
) -> StoreInfo:
    """Write the store of a recording that was opened with ``findings.report`` where ``skip_bad``.

    Raises:
        DataError: no clip could be read, or, unless ``skip_bad``, something is wrong with one.
        CrrlError: the file cannot be written.
    """
    report = findings.report if skip_bad else raise_problem
    on_clip = _counting(findings, on_progress)
    with _quiet():
        return write_store(path, recording, dataset=dataset, steps=steps, report=report, on_clip=on_clip)


def load(
    recording: Recording,
    findings: Findings,
    *,
    dataset: str,
    steps: Sequence[Step],
    skip_bad: bool,
    on_progress: Callable[[], None] = lambda: None,
) -> Store:
    """Return the store of a recording in memory, where ``write`` puts it on disk.

    Raises:
        DataError: no clip could be read, or, unless ``skip_bad``, something is wrong with one.
    """
    report = findings.report if skip_bad else raise_problem
    on_clip = _counting(findings, on_progress)
    with _quiet():
        return Store.from_recording(recording, dataset=dataset, steps=steps, report=report, on_clip=on_clip)


def check(
    recording: Recording, findings: Findings, *, dataset: str, on_progress: Callable[[], None] = lambda: None
) -> None:
    """Read all clips of a recording that was opened with ``findings.report`` and note every problem; write nothing."""
    packer = Packer(dataset, recording.layout, len(recording.class_names), (), sink=lambda frames: None)
    with _quiet():
        packer.add_all(recording.clips, findings.report, _counting(findings, on_progress))


def _counting(findings: Findings, on_progress: Callable[[], None]) -> Callable[[Clip], None]:
    def taken(clip: Clip) -> None:
        findings.taken += 1
        on_progress()

    return taken


def _quiet() -> np.errstate:
    """Return a context without NumPy's warnings: what a damaged number leads to is found and reported in its clip."""
    return np.errstate(all="ignore")
