"""Readers: one file for each foreign format, each turning files into clips. A new format is a file, and a line here."""

from __future__ import annotations

from pathlib import Path

from crrl_fast.data.readers import cmu, crrl_release, ctrgcn, ntu, own, pku, pyskl, stgcn, ucla
from crrl_fast.data.readers.base import Reader, Request
from crrl_fast.data.readers.source import why_refused
from crrl_fast.errors import ConfigError, DataError

# Asked in this order whether they recognise a source, so that what takes any array comes last.
READERS: dict[str, Reader] = {
    module.READER.name: module.READER for module in (ntu, ucla, pku, cmu, stgcn, ctrgcn, pyskl, crrl_release, own)
}

__all__ = ["READERS", "Reader", "Request", "find_reader"]


def find_reader(source: Path, layout: str | None = None) -> tuple[Reader, str]:
    """Return the reader of a source and what it recognised there; ``layout`` names one instead.

    Raises:
        ConfigError: there is no reader of that name.
        DataError: there is no such source, or no reader recognises it.
    """
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if layout is not None:
        if layout not in READERS:
            raise ConfigError(f"unknown layout {layout!r}: choose one of {', '.join(READERS)}")
        return READERS[layout], READERS[layout].summary
    for reader in READERS.values():
        found = reader.recognise(source)
        if found is not None:
            return reader, found
    refused = why_refused(source)
    if refused is not None:
        raise DataError(f"{source}: not read: {refused}")
    raise DataError(f"{source}: no reader recognises it; name its layout with --layout ({', '.join(READERS)})")
