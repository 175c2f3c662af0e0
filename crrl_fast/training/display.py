"""What a pretraining run shows: a live bar in a terminal, one plain line an epoch elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_NOT_LOSSES = ("stage", "epoch", "lr", "seconds", "clips_per_second", "knn", "skipped")


class TrainingDisplay:
    """Progress over all stages of a run.

    Args:
        console: where to print.
        epochs: epochs of all stages together.
        clips: clips an epoch.
    """

    def __init__(self, console: Console, epochs: int, clips: int) -> None:
        self._console = console
        self._epochs = epochs
        self._clips = clips
        self._epochs_done = 0
        self._epochs_before = 0
        self._started = time.perf_counter()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("starting", total=epochs * clips, status="")

    def __enter__(self) -> TrainingDisplay:
        """Start the live bar."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the live bar."""
        self._progress.stop()

    def skip(self, epochs: int, clips: int) -> None:
        """Count whole epochs, and clips of the next one, that were done before."""
        self._epochs_done = self._epochs_before = epochs
        self._progress.update(self._task, completed=epochs * self._clips + clips)

    def start_stage(self, name: str) -> None:
        """Name the stage that runs now."""
        self._progress.update(self._task, description=name)

    def step(self, clips: int) -> None:
        """Count the clips of a finished step."""
        self._progress.advance(self._task, clips)

    def epoch(self, record: dict[str, Any], epochs: int) -> None:
        """Show a finished epoch of a stage of ``epochs`` epochs."""
        self._epochs_done += 1
        losses = "  ".join(f"{name} {value:.4f}" for name, value in record.items() if name not in _NOT_LOSSES)
        probe = f"  1-nn {record['knn']:.1f}%" if "knn" in record else ""
        rate = f"{record['clips_per_second']:.0f} clips/s"
        if "skipped" in record:
            rate += f"  {record['skipped']} step{'s' if record['skipped'] > 1 else ''} skipped"
        line = f"{record['stage']} {record['epoch']:>3}/{epochs}  {losses}{probe}  {rate}"
        if self._console.is_terminal:
            self._progress.update(
                self._task,
                description=f"{record['stage']} {record['epoch']}/{epochs}",
                status=f"loss {record['loss']:.4f}  {rate}",
            )
            if probe:
                self._console.print(line, highlight=False)
        else:
            elapsed = time.perf_counter() - self._started
            left = elapsed / (self._epochs_done - self._epochs_before) * (self._epochs - self._epochs_done)
            self._console.print(f"{line}  {_clock(left)} left", highlight=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
