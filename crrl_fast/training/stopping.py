"""Signals that ask a run to stop: the step under way is finished first."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption(KeyboardInterrupt):
    """A signal stopped the run, which is saved.

    Attributes:
        signal: the signal.
        exit_code: by convention 128 more than its number.
    """

    def __init__(self, number: signal.Signals, message: str) -> None:
        super().__init__(message)
        self.signal = number
        self.exit_code = 128 + number


class StopSignals:
    """While it is entered, the first SIGINT or SIGTERM is only noted; a second one does what it did before.

    Python delivers signals to the main thread: elsewhere nothing is noted, and the signals do what they always do.

    Args:
        once: a second signal does nothing, as where Ctrl-C reaches a process both from the terminal and from its
            launcher.
    """

    def __init__(self, *, once: bool = False) -> None:
        self._once = once
        self._received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def received(self) -> signal.Signals | None:
        """The signal that came; None where none did."""
        return self._received

    def __enter__(self) -> StopSignals:
        """Take the signals over."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        self._give_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = signal.Signals(number)
        if not self._once:
            self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
