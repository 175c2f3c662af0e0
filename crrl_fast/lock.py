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


class FolderLock:
    """A lock that this process holds; ``folder_lock`` makes it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / LOCK_FILE
        self._descriptor = _acquire(self._path)

    def keep(self) -> None:
        """Hold the lock anew where its file was removed, as by somebody who took it for that of a dead process.

        Raises:
            ConfigError: another process holds it by now, or the folder is gone.
        """
        if _is_of(self._descriptor, self._path):
            return
        try:
            descriptor = _acquire(self._path)
        except BlockingIOError as error:
            raise ConfigError(
                f"{self._folder}: {LOCK_FILE} was removed while this job wrote the folder, and another job writes it "
                f"now ({_holder(self._path)}): this one saves nothing more there"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"{self._folder}: was deleted, renamed or cut off while this job wrote it ({error.strerror}): nothing "
                "more is saved; what is left of it goes on with --resume"
            ) from error
        os.close(self._descriptor)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let it go."""
        if _is_of(self._descriptor, self._path):
            with suppress(OSError):  # the folder may have become read-only; the lock ends all the same
                self._path.unlink()
        os.close(self._descriptor)


@contextmanager
def folder_lock(folder: Path) -> Iterator[FolderLock]:
    """Hold the folder's lock, which names this process and its host.

    The kernel holds it with the process: it ends with it, however it ends, so that nobody meets the lock of a dead one.
    On a network file system it holds between hosts if that file system locks files; if it does not, there is none.

    Raises:
        ConfigError: another process holds it, or the folder cannot be written to.
    """
    try:
        lock = FolderLock(folder)
    except BlockingIOError as error:
        holder = _holder(folder / LOCK_FILE)
        raise ConfigError(f"{folder}: another job is writing it ({holder}): wait for it, or stop it") from error
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written to ({error.strerror})") from error
    try:
        yield lock
    finally:
        lock.release()


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
            if _is_of(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_of(descriptor: int, path: Path) -> bool:
    """Whether the file that is open is the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "its process is not known yet"
