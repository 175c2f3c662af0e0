"""Damage to files: what a bad disk, a cut-off download, an editor or a malicious author does to them."""

import io
import json
import os
import re
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np

NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
NUMBERS = (
    *(b"nan", b"inf", b"-inf", b"1e39", b"1e308", b"-1e-400", b"0", b"-1", b"1.5", b"", b"x", b"0x10", b"1_0"),
    *(b"255", b"65536", b"2147483648", b"-9223372036854775809", b"99999999999999999999999", b"9" * 5000),
)
"""Limits of the types that readers convert to, and what other languages call numbers."""
TOKENS = (
    b"\0",
    b"\n",
    b"\r\n",
    b"\xff\xfe",
    b"[" * 3000,
    b"{",
    b'"',
    b",",
    b" ",
    "²".encode(),
    b"null",
    b"1e5",
    b"\x80",
)
HOSTILE_NUMBERS = (-1, 0, 1, 2, 1 << 31, 1 << 53, 1 << 62, (1 << 63) - 1, -(1 << 63))
HOSTILE_VALUES = (
    *(*HOSTILE_NUMBERS, 1 << 64, 10**400, 0.5, -1e308, float("inf"), float("-inf"), float("nan"), None, True, False),
    *("", "x", "\x00", "../../x", "/dev/zero", "\ud800", "\x1b[2J", "x" * 10_000, [], {}, [[]], [1, 2], {"x": 1}),
    *([0] * 10_000, [[[[[[[[1]]]]]]]], ["a", "a"], {str(i): i for i in range(3000)}),
)
"""What JSON can say that a writer never would."""
SUFFIXES_OF_ARCHIVES = (".zip", ".npz")


def mutate_source(source: Path, target: Path, rng: np.random.Generator) -> Path:
    """Copy a file or folder to ``target`` and damage the copy; return its path."""
    target.mkdir(parents=True)
    copy = target / source.name
    if source.is_file():
        copy.write_bytes(mutate_file(source.name, source.read_bytes(), rng))
        return copy
    shutil.copytree(source, copy)
    paths = sorted(path for path in copy.rglob("*") if path.is_file())
    path = paths[rng.integers(len(paths))]
    kind = rng.integers(20)
    if kind == 0:
        path.unlink()
    elif kind == 1:
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    elif kind == 2:
        path.rename(path.with_name(_mutated_name(path.name, rng)))
    else:
        path.write_bytes(mutate_file(path.name, path.read_bytes(), rng))
    return copy


def _mutated_name(name: str, rng: np.random.Generator) -> str:
    """Return a name that a file can have, not always in UTF-8."""
    mutated = re.sub(rb"[\0/]", b"_", _mutated(name.encode(), rng))[:200]
    return "x" if mutated in (b"", b".", b"..") else os.fsdecode(mutated)


def mutate_file(name: str, content: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file once to four times; half the time an archive is damaged inside, where no checksum sees it."""
    if name.endswith(SUFFIXES_OF_ARCHIVES) and rng.random() < 0.5:
        return _mutate_member(content, rng)
    if name.endswith(".safetensors") and rng.random() < 0.75:
        return _mutate_header(content, rng)
    if name.endswith(".json") and rng.random() < 0.5:
        return _mutate_json(content, rng)
    for _ in range(rng.integers(1, 5)):
        content = _mutated(content, rng)
    return content


def _mutate_header(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage the header of a safetensors file and give it its right length, so that what it says is believed."""
    length = int.from_bytes(content[:8], "little")
    header, rest = content[8 : 8 + length], content[8 + length :]
    kind = rng.integers(4)
    if kind == 0:
        header = _mutated(header, rng)
    elif kind == 1:
        values = json.loads(header)
        metadata = values.get("__metadata__")
        if metadata:  # the texts there are JSON of their own
            key = sorted(metadata)[rng.integers(len(metadata))]
            metadata[key] = _mutate_json(metadata[key].encode(), rng).decode(errors="replace")
        header = json.dumps(values).encode()
    elif kind == 2:
        start = int(rng.integers(len(rest) + 1)) & ~7
        number = HOSTILE_NUMBERS[rng.integers(len(HOSTILE_NUMBERS))]
        rest = rest[:start] + struct.pack("<q", number) + rest[start + 8 :]
    else:
        header = _mutate_json(header, rng)
    return struct.pack("<Q", len(header)) + header + rest


def _mutate_json(content: bytes, rng: np.random.Generator) -> bytes:
    """Put something hostile into the place of one value of a JSON text, which stays well formed."""
    try:
        values = json.loads(content)
    except ValueError:
        return _mutated(content, rng)
    if not isinstance(values, dict | list) or not values:
        return json.dumps(HOSTILE_VALUES[rng.integers(len(HOSTILE_VALUES))]).encode()
    place, key = _random_place(values, rng)
    kind = rng.integers(5)
    if kind == 0:
        del place[key]
    elif kind == 1 and isinstance(place, list):
        place += place * int(rng.integers(1, 4))
    elif kind == 1:
        place[str(key) + "x"] = place[key]
    else:
        place[key] = HOSTILE_VALUES[rng.integers(len(HOSTILE_VALUES))]
    return json.dumps(values).encode()


def _random_place(values: dict | list, rng: np.random.Generator) -> tuple[dict | list, object]:
    """Return a container somewhere in ``values`` and one of its keys; all depths are as likely."""
    while True:
        keys = list(values) if isinstance(values, dict) else list(range(len(values)))
        key = keys[rng.integers(len(keys))]
        if not isinstance(values[key], dict | list) or not values[key] or rng.random() < 0.3:
            return values, key
        values = values[key]


def _mutate_member(content: bytes, rng: np.random.Generator) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(member.filename, archive.read(member)) for member in archive.infolist()]
    chosen = rng.integers(len(members))
    repacked = io.BytesIO()
    with zipfile.ZipFile(repacked, "w") as archive:
        for i, (name, data) in enumerate(members):
            archive.writestr(name, mutate_file(name, data, rng) if i == chosen else data)
    return repacked.getvalue()


def _mutated(content: bytes, rng: np.random.Generator) -> bytes:
    mutation = MUTATIONS[rng.integers(len(MUTATIONS))]
    return mutation(content, rng)


def _flip_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    flipped = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        if flipped:
            flipped[_place(content, rng) % len(flipped)] ^= int(rng.integers(1, 256))
    return bytes(flipped)


def _truncate(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: _place(content, rng)]


def _delete(content: bytes, rng: np.random.Generator) -> bytes:
    start = _place(content, rng)
    return content[:start] + content[start + int(rng.integers(1, 65)) :]


def _insert(content: bytes, rng: np.random.Generator) -> bytes:
    start = _place(content, rng)
    inserted = TOKENS[rng.integers(len(TOKENS))] if rng.random() < 0.5 else rng.bytes(int(rng.integers(1, 17)))
    return content[:start] + inserted + content[start:]


def _repeat(content: bytes, rng: np.random.Generator) -> bytes:
    start = _place(content, rng)
    piece = content[start : start + int(rng.integers(1, 257))]
    return content[:start] + piece * int(rng.integers(2, 6)) + content[start:]


def _lines(content: bytes, rng: np.random.Generator) -> bytes:
    """Delete, repeat or swap lines."""
    lines = content.splitlines(keepends=True)
    if not lines:
        return content
    i, j = (int(_place(lines, rng)) % len(lines) for _ in range(2))
    kind = rng.integers(3)
    if kind == 0:
        del lines[i]
    elif kind == 1:
        lines.insert(j, lines[i])
    else:
        lines[i], lines[j] = lines[j], lines[i]
    return b"".join(lines)


def _numbers(content: bytes, rng: np.random.Generator) -> bytes:
    """Put another number in the place of one that is written as text, in binary files mostly one of the header."""
    found = list(NUMBER.finditer(content[: 1 << 16]))
    if not found:
        return _flip_bytes(content, rng)
    match = found[_place(found, rng) % len(found)]
    return content[: match.start()] + NUMBERS[rng.integers(len(NUMBERS))] + content[match.end() :]


def _integers(content: bytes, rng: np.random.Generator) -> bytes:
    """Overwrite four or eight bytes with an extreme whole number, as lengths and offsets in binary files are."""
    size = int(rng.choice([4, 8]))
    start = _place(content, rng)
    value = int(rng.choice([0, 1, (1 << 31) - 1, (1 << 31), (1 << 32) - 1]))
    return content[:start] + value.to_bytes(size, "little") + content[start + size :]


def _place(content: bytes | list, rng: np.random.Generator) -> int:
    """Draw a position, every third time near the start, where headers and counts are."""
    limit = min(len(content), 200) if rng.random() < 1 / 3 else len(content)
    return int(rng.integers(limit + 1))


MUTATIONS = (_flip_bytes, _truncate, _delete, _insert, _repeat, _lines, _numbers, _numbers, _integers)
