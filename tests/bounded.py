"""A process in which reading has bounded time and memory, and neither runs programs nor writes elsewhere."""

import math
import multiprocessing
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from crrl_fast.errors import CrrlError

SECONDS = 5
"""Of the processor: a machine that tests are run on may be busy. What is read takes milliseconds."""

GRACE = 5
"""Seconds of the processor until a process is ended that its own alarm did not end: it is not in Python code."""

WAITING = 60
"""Seconds for a reading that waits, and takes no time of the processor."""

MORE_MEMORY = 1 << 30
"""Bytes of address space that reading may take beyond what Python and its libraries have."""

READ, REFUSED, FAILED = "read", "refused", "failed"

# Named as in Python's table of audit events.
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
_FORBIDDEN = (
    *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen"),
    *("pickle.find_class", "socket.connect", "socket.bind"),
)


class TooSlow(BaseException):
    """Raised by the alarm; no reader's ``except Exception`` takes it for a problem of the file."""


class Forbidden(BaseException):
    """Raised in the place of what no reading may do."""


class BoundedProcess:
    """Calls a function in a process of its own, which is replaced where it ends.

    Args:
        function: gets the arguments of a call; what it is now, in this process, and all that it has imported, is
            inherited.
        writable: a folder in which it may write.
    """

    def __init__(self, function: Callable[..., object], writable: Path | None = None) -> None:
        self._function = function
        self._writable = writable
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=self._serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def __call__(self, *arguments: Any, **environment: str) -> tuple[str, str]:
        """Call the function with ``arguments`` in an environment with some variables more.

        Returns:
            How it ended, and what it says: ``READ`` and what it returned; ``REFUSED`` and the message, where it raised
            a CrrlError; or ``FAILED`` and the traceback, or what became of the process.
        """
        self._pipe.send((arguments, environment))
        try:
            # In steps, of which a machine that is suspended loses no more than one.
            if any(self._pipe.poll(1) for _ in range(WAITING)):
                return self._pipe.recv()
            ended = f"nothing came for {WAITING} s"
        except (EOFError, ConnectionResetError):
            self._process.join()
            ended = f"the process ended with code {self._process.exitcode}"
        self.close()
        self._start()
        return FAILED, ended

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.kill()
        self._process.join()

    def _serve(self, pipe: Any) -> None:
        self._pipe.close()  # so that this process ends with its parent
        torch.set_num_threads(1)  # the parent's threads are not inherited, and work would wait for them for ever
        sys.dont_write_bytecode = True
        limit = _address_space() + MORE_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGPROF, _raise_too_slow)
        watching = _watch(self._writable)
        while True:
            try:
                arguments, environment = pipe.recv()
            except EOFError:
                return
            os.environ.update(environment)
            most = math.ceil(time.process_time() + SECONDS + GRACE)
            resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            watching.append(True)
            try:
                outcome = READ, str(self._function(*arguments))
            except CrrlError as error:
                outcome = REFUSED, str(error)
            except BaseException:
                outcome = FAILED, traceback.format_exc()
            finally:
                watching.clear()
                signal.setitimer(signal.ITIMER_PROF, 0)
            pipe.send(outcome)
            for name in environment:
                del os.environ[name]


def _watch(writable: Path | None) -> list[bool]:
    """Raise Forbidden at forbidden events, from now on, while the list that is returned is not empty."""
    watching: list[bool] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not watching:
            return
        is_change = event in _CHANGES or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if event in _FORBIDDEN or (is_change and not _is_within(writable, arguments[0])):
            raise Forbidden(f"{event} of {arguments}")

    sys.addaudithook(hook)
    return watching


def _is_within(folder: Path | None, path: Any) -> bool:
    if isinstance(path, int):  # a file that was open, and if for writing, then it was seen
        return True
    return folder is not None and Path(os.fsdecode(path)).resolve().is_relative_to(folder.resolve())


def _address_space() -> int:
    """Return the bytes that this process has mapped."""
    match = re.search(r"VmSize:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) * 1024


def _raise_too_slow(signum: int, frame: object) -> None:
    raise TooSlow(f"not done after {SECONDS} s of the processor")
