"""The files of a source that may be a folder or a zip archive, listed and read the same way."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from crrl_fast.errors import DataError

ARCHIVE_ERRORS = (
    *(OSError, EOFError, RuntimeError, ValueError, OverflowError, LookupError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
"""What reading a damaged, encrypted or unusual zip archive raises."""

# A skeleton file is text of a few hundred kilobytes; far beyond that, it is a mistake or a zip bomb.
_MAX_BYTES = 1 << 28


@contextmanager
def open_source(source: Path, suffix: str) -> Iterator[list[tuple[str, Callable[[], bytes]]]]:
    """Yield (path inside the source, function that reads its bytes) for every file that ends in ``suffix``, sorted.

    Nothing is unpacked to disk. Hidden files, which some archivers add, are left out.

    Raises:
        DataError: the source is missing, is neither a folder nor a zip archive, or holds no such file.
    """
    if source.is_dir():
        files = [(path.relative_to(source).as_posix(), _file_reader(path)) for path in source.rglob(f"*{suffix}")]
        yield _sorted_visible(source, suffix, files)
    elif source.is_file():
        try:
            archive = zipfile.ZipFile(source)
        except ARCHIVE_ERRORS as error:
            raise DataError(f"{source}: neither a folder nor a readable zip archive ({error})") from error
        with archive:
            members = [member for member in archive.infolist() if member.filename.endswith(suffix)]
            yield _sorted_visible(
                source, suffix, [(member.filename, _member_reader(source, archive, member)) for member in members]
            )
    else:
        raise DataError(f"{source}: no such file or folder")


def count_files(source: Path, pattern: re.Pattern[str]) -> int:
    """Return how many file names in a folder or zip archive match ``pattern`` in full; 0 for any other source."""
    names: Iterable[str]
    if source.is_dir():
        names = (path.name for path in source.rglob("*"))
    else:
        try:
            with zipfile.ZipFile(source) as archive:
                names = [PurePosixPath(name).name for name in archive.namelist()]
        except ARCHIVE_ERRORS:
            return 0
    return sum(pattern.fullmatch(name) is not None for name in names)


def _sorted_visible(
    source: Path, suffix: str, files: list[tuple[str, Callable[[], bytes]]]
) -> list[tuple[str, Callable[[], bytes]]]:
    visible = sorted((file for file in files if not PurePosixPath(file[0]).name.startswith(".")), key=lambda f: f[0])
    if not visible:
        raise DataError(f"{source}: holds no {suffix} file")
    return visible


def _file_reader(path: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            size = path.stat().st_size
            if size > _MAX_BYTES:
                raise DataError(f"{path}: has {size} bytes, too large for a clip")
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error

    return read


def _member_reader(source: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        if member.file_size > _MAX_BYTES:
            raise DataError(f"{source}: {member.filename} unpacks to {member.file_size} bytes, too large for a clip")
        try:
            return archive.read(member)
        except ARCHIVE_ERRORS as error:
            raise DataError(f"{source}: cannot read {member.filename} ({error})") from error

    return read
