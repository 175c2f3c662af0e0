"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from crrl_fast.errors import CrrlError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which takes the place of ``path`` where the body succeeds.

    The folder is made where it is missing; a failure leaves ``path`` as it was and no temporary file behind.

    Raises:
        CrrlError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CrrlError(f"{path}: cannot be written ({cause})") from error


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` (see ``replacing``)."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write ``values`` to ``path`` as indented JSON (see ``replacing``)."""
    write_text(path, json.dumps(values, indent=2) + "\n")
