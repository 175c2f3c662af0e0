"""The run's log: ``metrics.jsonl`` and TensorBoard events."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from crrl_fast.errors import CheckpointError, CrrlError
from crrl_fast.files import why_not_written, write_text
from crrl_fast.run import METRICS_FILE

_EVENTS = "events.out.tfevents.*"


class MetricsLog:
    """Appends one object an epoch to ``metrics.jsonl`` and the same numbers to TensorBoard.

    Args:
        folder: the run folder.
        text: what the log begins with, as its ``text`` was earlier; what the folder's files hold beyond it, of epochs
            that are taken anew, is dropped.

    Raises:
        CheckpointError: ``text`` is no log.
        CrrlError: the folder cannot be written.
    """

    def __init__(self, folder: Path, text: str = "") -> None:
        self._path = folder / METRICS_FILE
        self._text = text
        records = _parse(self._path, text)
        try:
            earlier = list(folder.glob(_EVENTS))
            write_text(self._path, text, durable=True)
            self._file = self._path.open("a")
            self._events = _EventFile(folder)
            for record in records:
                self._events.write(record)
            for events in earlier:
                events.unlink()
        except OSError as error:
            raise CrrlError(f"{folder}: the log {why_not_written(error)}") from error

    def __enter__(self) -> MetricsLog:
        """Return the log, open for writing."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        with suppress(OSError):  # each record was flushed, so nothing is left to write that has not failed before
            self._file.close()
        with suppress(OSError):
            self._events.close()

    @property
    def text(self) -> str:
        """What ``metrics.jsonl`` holds."""
        return self._text

    def write(self, record: dict[str, Any]) -> None:
        """Write an epoch's record (see ``StageLoop``); it has left this process when this returns.

        Raises:
            CrrlError: it cannot be written.
        """
        line = json.dumps(record) + "\n"
        try:
            self._file.write(line)
            self._file.flush()
            self._events.write(record)
        except OSError as error:
            raise CrrlError(f"{self._path}: {why_not_written(error)}") from error
        self._text += line


class _EventFile:
    """TensorBoard events, written at once: torch's writer has a thread, which fails on its own where a disk is full."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        name = _EVENTS.replace("*", f"{time.time():.6f}.{socket.gethostname()}.{os.getpid()}")
        self._file = (folder / name).open("wb")
        self._writer = RecordWriter(self._file)
        self._add(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def write(self, record: dict[str, Any]) -> None:
        stage, epoch = record["stage"], record["epoch"]
        numbers = {f"{stage}/{name}": value for name, value in record.items() if name not in ("stage", "epoch")}
        values = [self._summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        self._add(self._event(wall_time=time.time(), step=epoch, summary=self._summary(value=values)))

    def close(self) -> None:
        self._file.close()

    def _add(self, event: Any) -> None:  # noqa: ANN401 - a protocol buffer
        self._writer.write(event.SerializeToString())
        self._file.flush()


def _parse(path: Path, text: str) -> list[dict[str, Any]]:
    try:
        records = [json.loads(line) for line in text.encode().splitlines()]
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: what a checkpoint says it held is no log ({error})") from error
    if not all(map(_is_record, records)):
        raise CheckpointError(f"{path}: what a checkpoint says it held is no log of epochs")
    return records


def _is_record(record: object) -> bool:
    """Return whether TensorBoard, too, takes its numbers and names."""
    if not isinstance(record, dict) or not isinstance(record.get("stage"), str):
        return False
    epoch, numbers = record.get("epoch"), [value for name, value in record.items() if name != "stage"]
    return (
        type(epoch) is int
        and 0 <= epoch < 1 << 31
        and all(isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 63) for value in numbers)
        and f"{record['stage']}{''.join(record)}".isprintable()
    )
