"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from crrl_fast.errors import CrrlError


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
            yield temporary
            if durable:
                _synchronise(temporary)
            temporary.replace(path)
            if durable:
                _synchronise(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CrrlError(f"{path}: cannot be written ({cause})") from error


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


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _synchronise(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
