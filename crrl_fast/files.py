"""Files: written whole or not at all, and read no further than a limit."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from crrl_fast.errors import CrrlError, DataError
from crrl_fast.limits import limit, raising

_KINDS = {
    "checkpoint": "a checkpoint",
    "clip": "a clip",
    "labels": "a table of labels",
    "record": "a record of a run",
    "toml": "a recipe or layout",
}
_MOST_DOTS = 2048
FOLLOW_LINKS = "CRRL_FOLLOW_LINKS"
_CURES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), ": make room there"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), ": make its folder writable"),
}
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
"""What text that is no JSON or TOML raises, and JSON of another form than expected."""


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to, which takes the place of ``path`` where the body succeeds.

    The folder is made where it is missing; a failure leaves ``path`` as it was and no temporary file behind.

    Args:
        path: the file to write.
        durable: whether it is on the disk when the body ends, so that it outlives a loss of power.

    Raises:
        CrrlError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.unlink(missing_ok=True)  # a link there would lead out of the folder; nobody else has this name
            yield temporary
            if durable:
                _synchronise(temporary)
            temporary.replace(path)
            if durable:
                _synchronise(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise CrrlError(f"{path}: {why_not_written(error)}") from error


def why_not_written(error: OSError | SafetensorError) -> str:
    """Return why a file cannot be written, and the cure where one is known."""
    if not isinstance(error, OSError) or not error.strerror:
        return f"cannot be written ({error})"
    return f"cannot be written ({error.strerror}){_CURES.get(error.errno or 0, '')}"


def write_weights(path: Path, tensors: Mapping[str, Tensor], *, durable: bool = False) -> None:
    """Write ``tensors`` to ``path`` as safetensors (see ``replacing``).

    They are serialised in memory: safetensors' own ``save_file`` adds a temporary file of another name, which a process
    that is killed would leave behind.
    """
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write ``text`` to ``path`` (see ``replacing``)."""
    with replacing(path, durable=durable) as temporary:
        temporary.write_text(text)


def write_json(path: Path, values: Mapping[str, Any], *, durable: bool = False) -> None:
    """Write ``values`` to ``path`` as indented JSON (see ``replacing``)."""
    write_text(path, json.dumps(values, indent=2) + "\n", durable=durable)


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading; what is no regular file, and might block or never end, is refused.

    Raises:
        OSError: it cannot be opened, or is a folder, a pipe or a device.
    """
    # Opening a pipe that nobody writes to would wait for ever; for regular files the flag means nothing.
    file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(None, "not a regular file")
    return file


def read_limited(path: Path, most: str) -> bytes:
    """Return the content of a regular file that is no larger than limit ``most`` (see ``limits``).

    Raises:
        OSError: it cannot be opened.
        DataError: it is larger.
    """
    with open_regular(path) as file:
        return file.read(_check_size(path, file, most))


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file says, which is no larger than limit ``toml``.

    Raises:
        OSError: it cannot be opened.
        DataError: it is too large.
        ValueError: it is no TOML; so too RecursionError.
    """
    text = read_limited(path, "toml").decode()
    # tomllib takes memory with the square of a key's parts, a.b.c and so on.
    if max(line.count(".") for line in text.split("\n")) > _MOST_DOTS:
        raise ValueError(f"a line with more than {_MOST_DOTS} dots")
    return tomllib.loads(text)


def check_link(path: Path, folder: Path) -> None:
    """Refuse a link within a folder that leads out of it: its maker chose where to. ``CRRL_FOLLOW_LINKS=1`` allows it.

    Raises:
        DataError: it does.
    """
    if not path.is_symlink() or os.environ.get(FOLLOW_LINKS) == "1":
        return
    try:
        outside = not path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a link to itself
        outside = True
    if outside:
        raise DataError(
            f"{path}: a link to a file outside {folder}: copy the file there, or set {FOLLOW_LINKS}=1 if you made it"
        )


def file_digest(path: Path) -> str:
    """Return the SHA-256, in hexadecimal, of a file no larger than limit ``checkpoint``.

    Raises:
        OSError: it cannot be read.
        DataError: it is larger.
    """
    with open_regular(path) as file:
        _check_size(path, file, "checkpoint")
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_size(path: Path, file: BufferedReader, most: str) -> int:
    size = os.fstat(file.fileno()).st_size
    if size > limit(most):
        raise DataError(f"{path}: has {size} bytes, too large for {_KINDS[most]}; {raising(most)}")
    return size


def _synchronise(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
