"""What a reader is, and what it is asked."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crrl_fast.data.layouts import Layout
from crrl_fast.data.recording import Recording, Report, raise_problem


def ignore_skipped(clip: str, why: str) -> None:
    """Say nothing of a clip that is left out."""


@dataclass(frozen=True)
class Request:
    """What to read.

    Attributes:
        source: a file or a folder.
        dataset: the name that the user gives the data set; it decides classes and splits where the files do not.
        joints: the joint layout, where the files do not say.
        labels: a CSV of labels, where the files have none.
        report: gets what is wrong with a file or clip; where it returns, that file or clip is left out.
        skip: gets the name of a clip that the data set's own rules leave out, and why.
        workers: threads or processes for readers that use several.
    """

    source: Path
    dataset: str
    joints: Layout | None = None
    labels: Path | None = None
    report: Report = raise_problem
    skip: Callable[[str, str], None] = ignore_skipped
    workers: int = os.cpu_count() or 1


@dataclass(frozen=True)
class Reader:
    """One foreign format.

    Attributes:
        name: what ``crrl-fast prepare --layout`` takes.
        summary: what it reads, in a line.
        recognise: looks at names and headers alone, and returns what it found there, or None where that is another
            format. It raises nothing, whatever the source holds.
        read: opens the source; its clips are read as they are asked for, in an order that depends on the source alone.
            Raises DataError where the source as a whole cannot be read, and passes problems of single files and clips
            to ``request.report``, naming file, line or clip, value and cure.
    """

    name: str
    summary: str
    recognise: Callable[[Path], str | None]
    read: Callable[[Request], Recording]
