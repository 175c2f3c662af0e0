"""Progress of long jobs that count something."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_REDRAW_SECONDS = 0.1

Counting = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""Shows how far a job is: gets what is done and the total; gives a function that takes the count so far."""


def uncounted(what: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
    """Show nothing."""
    return nullcontext(lambda count: None)


def adding(progress: Callable[[int], None]) -> Callable[[int], None]:
    """Return a function that takes what each step adds to the count that ``progress`` takes."""
    count = 0

    def add(more: int) -> None:
        nonlocal count
        count += more
        progress(count)

    return add


@contextmanager
def counting(console: Console, what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a live bar with time left in a terminal, nothing elsewhere; yield a function that takes the count so far."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    task = progress.add_task(what, total=total)
    drawn = 0.0

    def update(count: int) -> None:
        nonlocal drawn
        now = time.perf_counter()
        if now - drawn > _REDRAW_SECONDS:  # an update takes longer than reading a small clip
            progress.update(task, completed=count)
            drawn = now

    with progress:
        yield update
