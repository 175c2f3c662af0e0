"""Which version of a file was read, and what has become of it since; the file is not opened for that."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True)
class FileVersion:
    """What the file system says of a file.

    Attributes:
        size: in bytes.
        modified: when it was last written, in nanoseconds.
        device: of the file system.
        inode: its number there; a file that takes the place of another has a number of its own.
    """

    size: int
    modified: int
    device: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileVersion:
        """Return that of a file by its status."""
        return cls(status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino)


def change(path: Path, version: FileVersion) -> str | None:
    """Return in words what has happened to the file at ``path`` since it was of ``version``; None where nothing has."""
    try:
        now = FileVersion.of(path.stat())
    except FileNotFoundError:
        return "has vanished (deleted, renamed, or its file system unmounted)"
    except OSError as error:
        return f"cannot be reached any more ({error.strerror})"
    if now == version:
        return None
    what = "was replaced by another file" if _place(now) != _place(version) else "was written to"
    if now.size != version.size:
        return f"{what} ({version.size} bytes, now {now.size})"
    return f"{what} (as large as before, last written {_time(version)}, now {_time(now)})"


class FileWatch:
    """Tells of each change of a file once.

    Args:
        path: of the file.
        version: that was read.
    """

    def __init__(self, path: Path, version: FileVersion) -> None:
        self.path = path
        self._version = version
        self._told: str | None = None

    def news(self) -> str | None:
        """Return what has happened to the file since it was read, where that was not told before; else None."""
        found = change(self.path, self._version)
        if found == self._told:
            return None
        self._told = found
        return found


def _place(version: FileVersion) -> tuple[int, int]:
    return version.device, version.inode


def _time(version: FileVersion) -> str:
    return f"{datetime.fromtimestamp(version.modified / 1e9):%Y-%m-%d %H:%M:%S.%f}"
