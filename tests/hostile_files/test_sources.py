"""Hostile sources of clips: archives, arrays, folders and text."""

import json
import os
import re
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from crrl_fast.limits import limit
from tests.bounded import REFUSED

# ---- Archives ----


def bzip2_bomb(path: Path) -> None:
    """A kilobyte that unpacks to a quarter of a gigabyte at once: its method knows no smaller steps."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive,
        archive.open("a.json", "w", force_zip64=True) as file,
    ):
        for _ in range(4):
            file.write(bytes(1 << 26))


def deflate_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.json", "w") as file:
        for _ in range(4):
            file.write(b" " * (1 << 26))


def many_members(path: Path) -> None:
    """Each is small enough, all together are not."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(30):
            archive.writestr(f"{i}.json", b" " * (1 << 23))


def overlapping(path: Path) -> None:
    """As D. Fifield's: the entries of the directory share one kernel of compressed bytes. 90 KB make 10 GB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = b" " * (1 << 23)
    data = packer.compress(content) + packer.flush()
    sums = (zlib.crc32(content), len(data), len(content))
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 8, 0, 0, *sums, 1, 0) + b"a"
    entries = b""
    for i in range(1300):
        name = f"{i}.json".encode()
        entries += (
            struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, 8, 0, 0, *sums, len(name), 0, 0, 0, 0, 0, 0) + name
        )
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1300, 1300, len(entries), len(local + data), 0)
    path.write_bytes(local + data + entries + end)


def lying(path: Path) -> None:
    """The directory promises a kilobyte where a gigabyte would come out."""
    deflate_bomb(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", 1 << 28), struct.pack("<I", 1 << 10)))


def member(name: str, mode: int = 0o100644, flags: int = 0):
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, "[[[0, 0, 0]]]")
        if flags:
            content = bytearray(path.read_bytes())
            content[content.index(b"PK\x01\x02") + 8] |= flags
            path.write_bytes(content)

    return write


def twice(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a.json", "[]")
        archive.writestr("a.json", "[[]]")


def nested(path: Path) -> None:
    """An archive of arrays within an archive of clips."""
    inner = path.with_name("inner.npz")
    np.savez_compressed(inner, data=np.zeros((1 << 19, 20, 3), np.float32))
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(inner, "a.npz")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (bzip2_bomb, "packed by method 12"),
        (deflate_bomb, "unpacks from .* a zip bomb"),
        (many_members, "unpacks from .* a zip bomb"),
        (overlapping, "overlap"),
        (lying, "a.json"),
        (member("../../x.json"), "leads out of the archive"),
        (member("/etc/x.json"), "leads out of the archive"),
        (member("..\\x.json"), "leads out of the archive"),
        (member("a.json", 0o120777), "is a link"),
        (member("a.json", flags=1), "is encrypted"),
        (twice, "stands twice"),
        (nested, "unpacks"),
    ],
)
def test_archives(refused, tmp_path, write, message):
    path = tmp_path / "clips.zip"
    write(path)
    assert path.stat().st_size < 1 << 20
    assert re.search(message, refused("clips", path))


def test_an_archive_with_a_huge_directory(refused, tmp_path):
    path = tmp_path / "clips.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(2000):
            archive.writestr(f"{i}.json", "")
    assert "its directory has" in refused("clips", path, CRRL_LIMITS="directory=64K")


# ---- Arrays ----


def npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


@pytest.mark.parametrize(
    "content",
    [
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 20, 3)}"),
        npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1000000000000, 20, 3)}"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cposix\nsystem\n(Vtouch ran\ntR."),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os').system('touch ran'),)}"),
        npy("(" * 118),
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 0xFFFFFFFF) + b"{",
    ],
)
def test_arrays(refused, tmp_path, content):
    path = tmp_path / "clips.npy"
    path.write_bytes(content)
    refused("clips", path)
    assert not (Path(__file__).parents[1] / "ran").exists()


# ---- Folders ----


def test_folders_with_pipes_devices_and_links(refused, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    os.mkfifo(folder / "a.json")
    (folder / "b.json").symlink_to("/dev/zero")
    assert "no" in refused("clips", folder)
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps(np.zeros((2, 20, 3)).tolist()))
    (folder / "c.json").symlink_to(secret)
    assert "a link to a file outside" in refused("clips", folder)


def test_links_are_followed_where_that_is_wanted(tmp_path, monkeypatch):
    from crrl_fast.data import catalog

    folder = tmp_path / "clips"
    folder.mkdir()
    secret = tmp_path / "elsewhere.json"
    secret.write_text(json.dumps(np.zeros((2, 20, 3)).tolist()))
    (folder / "c.json").symlink_to(secret)
    monkeypatch.setenv("CRRL_FOLLOW_LINKS", "1")
    recording, _ = catalog.open_recording("own", folder, joints="kinect20")
    assert [clip.name for clip in recording.clips] == ["c"]


@pytest.mark.parametrize("kind", ["store", "layout", "labels", "recipe"])
@pytest.mark.parametrize("target", ["/dev/zero", "pipe"])
def test_what_is_no_file(refused, tmp_path, kind, target):
    path = tmp_path / "x.toml"
    os.mkfifo(path) if target == "pipe" else path.symlink_to(target)
    refused(kind, path)


# ---- Text ----


@pytest.mark.parametrize("kind", ["layout", "recipe"])
@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 100_000,
        "x = " + "{a=" * 50_000,
        "a." * 50_000 + "a = 1",
        "joints = [" + '"a",' * 40_000 + "]",
        "epochs = " + "9" * 5000,
        "epochs = 0x" + "F" * 100_000,
        "lr = 1" + "0" * 400,
        "#" * (1 << 20),
        "lr = 1979-05-27",
        "\x00",
    ],
    ids=lambda text: text[:12].encode().hex(),
)
def test_toml(reader, tmp_path, kind, text):
    path = tmp_path / "x.toml"
    path.write_text(text)
    outcome, message = reader(kind, path)
    assert outcome == REFUSED, (outcome, message)
    assert len(message) < 2000
    assert str(path) in message or "recipe field" in message


def test_label_tables(refused, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("a,b\n" * (limit("labels") // 4 + 1))
    assert "too large for a table of labels" in refused("labels", path)
    path.write_text("name,label\n" + '"' + "x" * (1 << 20))
    assert "field larger than field limit" in refused("labels", path)
