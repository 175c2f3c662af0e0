"""The run's log: ``metrics.jsonl`` and TensorBoard events."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from crrl_fast.run import METRICS_FILE


class MetricsLog:
    """Appends one object an epoch to ``metrics.jsonl`` and the same numbers to TensorBoard.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._file = (folder / METRICS_FILE).open("a")
        self._writer = SummaryWriter(str(folder))

    def __enter__(self) -> MetricsLog:
        """Return the log, open for writing."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self._file.close()
        self._writer.close()

    def write(self, record: dict[str, Any]) -> None:
        """Write an epoch's record (see ``StageLoop``); it is on disk when this returns."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        for name, value in record.items():
            if name not in ("stage", "epoch"):
                self._writer.add_scalar(f"{record['stage']}/{name}", value, record["epoch"])
        self._writer.flush()
