"""One job at a time in a folder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crrl_fast.errors import ConfigError

LOCK_FILE = ".lock"
_NOT_SUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which names this process and its host.

    The kernel holds it with the process: it ends with it, however it ends, so that nobody meets the lock of a dead one.
    On a network file system it holds between hosts if that file system locks files; if it does not, there is none.

    Raises:
        ConfigError: another process holds it, or the folder cannot be written to.
    """
    path = folder / LOCK_FILE
    try:
        descriptor = _acquire(path)
    except BlockingIOError as error:
        raise ConfigError(f"{folder}: another job is writing it ({_holder(path)}): wait for it, or stop it") from error
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written to ({error.strerror})") from error
    try:
        yield
    finally:
        with suppress(OSError):  # the folder may have become read-only; the lock ends all the same
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path) -> int:
    """Return the descriptor of the locked file."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in _NOT_SUPPORTED:
                    raise
            # Whoever held it before may have removed the file between our opening and our locking it.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "its process is not known yet"
