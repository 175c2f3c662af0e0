"""The files of a source that may be a folder or a zip archive, listed and read the same way."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from crrl_fast.data.readers.archive import open_archive, read_member
from crrl_fast.errors import DataError
from crrl_fast.files import check_link, read_limited
from crrl_fast.limits import limit, raising

ARCHIVE_ERRORS = (
    *(OSError, EOFError, RuntimeError, ValueError, OverflowError, LookupError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
"""What reading a damaged, encrypted or unusual zip archive raises."""


@contextmanager
def open_source(source: Path, *suffixes: str) -> Iterator[list[tuple[str, Callable[[], bytes]]]]:
    """Yield (path inside the source, function that reads its bytes) for every file of these suffixes, sorted.

    Nothing is unpacked to disk. Hidden files, which some archivers add, are left out.

    Raises:
        DataError: the source is missing, is neither a folder nor a zip archive, or holds no such file.
    """
    if source.is_dir():
        paths = [path for path in source.rglob("*") if path.name.endswith(suffixes) and path.is_file()]
        files = [(path.relative_to(source).as_posix(), file_reader(path, source)) for path in paths]
        yield _sorted_visible(source, suffixes, files)
    elif source.is_file():
        with ExitStack() as stack:
            try:
                archive = stack.enter_context(open_archive(source))
            except ARCHIVE_ERRORS as error:
                raise DataError(f"{source}: neither a folder nor a readable zip archive ({error})") from error
            members = [member for member in archive.infolist() if member.filename.endswith(suffixes)]
            yield _sorted_visible(
                source, suffixes, [(member.filename, _member_reader(source, archive, member)) for member in members]
            )
    else:
        raise DataError(f"{source}: no such file or folder")


def list_files(source: Path) -> list[str]:
    """Return the paths inside a folder or zip archive, hidden files left out; none for any other source."""
    if source.is_dir():
        paths = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
    else:
        try:
            with open_archive(source) as archive:
                paths = [member.filename for member in archive.infolist() if not member.is_dir()]
        except ARCHIVE_ERRORS:
            return []
    return [path for path in paths if not PurePosixPath(path).name.startswith(".")]


def count_files(source: Path, pattern: re.Pattern[str]) -> int:
    """Return how many file names in a folder or zip archive match ``pattern`` in full; 0 for any other source."""
    return sum(pattern.fullmatch(PurePosixPath(path).name) is not None for path in list_files(source))


def _sorted_visible(
    source: Path, suffixes: tuple[str, ...], files: list[tuple[str, Callable[[], bytes]]]
) -> list[tuple[str, Callable[[], bytes]]]:
    visible = sorted((file for file in files if not PurePosixPath(file[0]).name.startswith(".")), key=lambda f: f[0])
    if not visible:
        raise DataError(f"{source}: holds no {' or '.join(suffixes)} file")
    return visible


def why_refused(source: Path) -> str | None:
    """Return why a zip archive, or a link in a folder, is not read; None where it is, and for any other source."""
    try:
        for path in source.rglob("*") if source.is_dir() else ():
            check_link(path, source)
        if not zipfile.is_zipfile(source):
            return None
        with open_archive(source):
            return None
    except (DataError, *ARCHIVE_ERRORS) as error:
        return str(error)


def file_reader(path: Path, folder: Path | None = None) -> Callable[[], bytes]:
    """Return a function that reads a clip's file.

    It raises DataError where it cannot, the file is larger than limit ``clip``, or a link that leads out of ``folder``.
    """

    def read() -> bytes:
        try:
            if folder is not None:
                check_link(path, folder)
            return read_limited(path, "clip")
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error

    return read


def _member_reader(source: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        if member.file_size > limit("clip"):
            raise DataError(
                f"{source}: {member.filename} unpacks to {member.file_size} bytes, too large for a clip; "
                f"{raising('clip')}"
            )
        try:
            return read_member(archive, member)
        except ARCHIVE_ERRORS as error:
            raise DataError(f"{source}: cannot read {member.filename} ({error})") from error

    return read
