"""What a reader returns: clips one by one, and what holds for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from crrl_fast.data.clip import Clip
from crrl_fast.data.info import Split
from crrl_fast.data.layouts import Layout
from crrl_fast.errors import DataError

Report = Callable[[DataError], None]
"""Gets a problem with one file or clip. It raises, or returns so that the file or clip is left out."""


def raise_problem(problem: DataError) -> NoReturn:
    """End at the first problem."""
    raise problem


@dataclass(frozen=True)
class Recording:
    """The clips of a source; they are read as they are asked for.

    Attributes:
        layout: the joint layout of all clips.
        clips: can be gone through once.
        count: how many files or clips are to come, those included that will be left out; None where it is unknown.
        class_names: name of each class, in label order; empty where there are no labels.
        fps: frames a second; None where unknown.
        splits: named splits; the first is the default.
    """

    layout: Layout
    clips: Iterable[Clip]
    count: int | None = None
    class_names: Sequence[str] = ()
    fps: float | None = None
    splits: Mapping[str, Split] = field(default_factory=dict)
