"""Zip archives that anybody may have made: opened only where what they say of themselves is possible and plausible."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from crrl_fast.files import open_regular
from crrl_fast.limits import limit, raising

# A padded data set packs to a tenth or less, zeros alone to a thousandth; small ones may pack as they like.
_RATIO_MATTERS = 1 << 26
# Others unpack without a bound on their output, and no data set is known that uses them.
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
_LOCAL_HEADER = 30
_ENCRYPTED = 1


@contextmanager
def open_archive(source: Path | IO[bytes]) -> Iterator[zipfile.ZipFile]:
    """Open an archive and check its directory; nothing is unpacked.

    Raises:
        zipfile.BadZipFile: it is damaged; its directory is larger than limit ``directory``; members overlap, stand
            twice, are links, are encrypted or packed by another method than zip's usual one, or have a path that leads
            out of the archive; or they unpack to more than limit ``ratio`` times as much.
        OSError: it cannot be read.
    """
    file = open_regular(source) if isinstance(source, Path) else source
    try:
        directory = _Directory(file)
        with zipfile.ZipFile(directory) as archive:
            directory.most = None
            _check(archive, directory.seek(0, io.SEEK_END))
            yield archive
    finally:
        if isinstance(source, Path):
            file.close()


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return the content of a member; raises as ``zipfile`` does where it is not what the directory says."""
    with archive.open(member) as file:
        # Asking for a byte more reaches the end, where the checksum is compared; asking for all sets no bound.
        return file.read(member.file_size + 1)


class _Directory(io.RawIOBase):
    """A file of which no more than a directory's worth is read at once, until ``most`` is None."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.most: int | None = limit("directory")

    def read(self, size: int | None = -1) -> bytes:
        if self.most is not None and size is not None and size > self.most:
            raise zipfile.BadZipFile(f"its directory has {size} bytes; {raising('directory')}")
        return self._file.read(-1 if size is None else size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def _check(archive: zipfile.ZipFile, size: int) -> None:
    members = archive.infolist()
    names = set()
    for member in members:
        _check_member(member)
        if member.filename in names:
            raise zipfile.BadZipFile(f"{member.filename!r} stands twice")
        names.add(member.filename)
    end = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise zipfile.BadZipFile(f"{member.filename!r} overlaps another member: a zip bomb")
        end = member.header_offset + _LOCAL_HEADER + member.compress_size
    if end > size:
        raise zipfile.BadZipFile("its members reach beyond its end: cut short?")
    _check_packing("its content", size, sum(member.file_size for member in members))


def _check_member(member: zipfile.ZipInfo) -> None:
    name = member.filename
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise zipfile.BadZipFile(f"{name!r} leads out of the archive")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise zipfile.BadZipFile(f"{name!r} is a link: put the file itself into the archive")
    if member.flag_bits & _ENCRYPTED:
        raise zipfile.BadZipFile(f"{name!r} is encrypted: unpack it yourself and name the folder")
    if member.compress_type not in _METHODS:
        raise zipfile.BadZipFile(
            f"{name!r} is packed by method {member.compress_type}: pack it again, {' or '.join(_METHODS.values())}"
        )
    _check_packing(name, member.compress_size, member.file_size)


def _check_packing(what: str, packed: int, size: int) -> None:
    if size > max(_RATIO_MATTERS, limit("ratio") * packed):
        raise zipfile.BadZipFile(
            f"{what} unpacks from {packed} to {size} bytes, beyond {limit('ratio')} times as many: a zip bomb, or "
            f"empty; {raising('ratio')}, or pack it without compression, for instance by np.savez"
        )
