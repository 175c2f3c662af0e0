"""Damage to files, as strategies of Hypothesis: what a bad disk, a cut-off download, an editor or an attacker does.

A source of several files is a mapping of paths, relative to its folder, to contents.
"""

import io
import json
import os
import re
import struct
import zipfile
from collections.abc import Callable, Mapping

import safetensors.torch
import torch

from tests.property_based import st

NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
NUMBERS = (
    *(b"nan", b"inf", b"-inf", b"1e39", b"1e308", b"-1e-400", b"0", b"-1", b"1.5", b"", b"x", b"0x10", b"1_0"),
    *(b"255", b"65536", b"2147483648", b"-9223372036854775809", b"99999999999999999999999", b"9" * 5000),
)
"""Limits of the types that readers convert to, and what other languages call numbers."""
TOKENS = (
    *(b"\0", b"\n", b"\r\n", b"\xff\xfe", b"[" * 3000, b"{", b'"', b",", b" ", "²".encode(), b"null", b"1e5", b"\x80"),
)
HOSTILE_NUMBERS = (-1, 0, 1, 2, 1 << 31, 1 << 53, 1 << 62, (1 << 63) - 1, -(1 << 63))
HOSTILE_VALUES = (
    *(*HOSTILE_NUMBERS, 1 << 64, 10**400, 0.5, -1e308, float("inf"), float("-inf"), float("nan"), None, True, False),
    *("", "x", "\x00", "../../x", "/dev/zero", "\ud800", "\x1b[2J", "x" * 10_000, [], {}, [[]], [1, 2], {"x": 1}),
    *([0] * 10_000, [[[[[[[[1]]]]]]]], ["a", "a"], {str(i): i for i in range(3000)}),
)
"""What JSON can say that a writer never would."""
CHANGES: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    **{str(dtype): lambda x, dtype=dtype: x.to(dtype) for dtype in (torch.float64, torch.float16, torch.int64)},
    **{str(dtype): lambda x, dtype=dtype: x.to(dtype) for dtype in (torch.uint8, torch.bool)},
    **{str(value): lambda x, value=value: torch.full(x.shape, value).to(x.dtype) for value in (-1, 0, 1, 255)},
    "huge": lambda x: x.fill_(torch.finfo(x.dtype).max if x.is_floating_point() else torch.iinfo(x.dtype).max),
    "nan": lambda x: x.double().fill_(torch.nan).to(x.dtype),
    "flat": lambda x: x.flatten(),
    "deeper": lambda x: x[None],
    "empty": lambda x: x.flatten()[:0],
    "longer": lambda x: torch.cat([x.flatten(), x.flatten()]),
}
"""What a well-formed tensor may be that a writer never makes."""

Files = Mapping[str, bytes]


@st.composite
def damaged_sources(draw, files: Files) -> Files:
    """Damage one of the files, or lose, double or rename it."""
    path = draw(st.sampled_from(sorted(files)))
    rest = {other: content for other, content in files.items() if other != path}
    kind = draw(st.integers(0, 19)) if len(files) > 1 else 0
    if kind == 19:
        return rest
    name = path.rpartition("/")[2]
    folder = path.removesuffix(name)
    if kind == 18:
        return {**files, f"{folder}copy-{name}": files[path]}
    if kind == 17:
        renamed = re.sub(rb"[\0/]", b"_", draw(_damaged(name.encode())))[:200]
        renamed = b"x" if renamed in (b"", b".", b"..") else renamed
        return {**rest, f"{folder}{os.fsdecode(renamed)}": files[path]}
    return {**rest, path: draw(damaged_files(name, files[path]))}


def damaged_files(name: str, content: bytes) -> st.SearchStrategy[bytes]:
    """Damage a file of that name: half the time by its structure, so that the damage gets past parser and checksums."""
    suffix = name[name.rfind(".") :]
    inside = [strategy(content) for strategy in INSIDE.get(suffix, ())]
    return st.one_of(_damaged_several_times(content), *inside) if inside else _damaged_several_times(content)


@st.composite
def _damaged_several_times(draw, content: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 4))):
        content = draw(_damaged(content))
    return content


def _damaged(content: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from(DAMAGES).flatmap(lambda damage: damage(content))


# ---- Any bytes ----


def _places(content: bytes | list) -> st.SearchStrategy[int]:
    """Positions, also the end; many of them near the start, where headers and counts are."""
    return st.integers(0, min(len(content), 200)) | st.integers(0, len(content)) | st.integers(0, len(content))


@st.composite
def _flipped(draw, content: bytes) -> bytes:
    flipped = bytearray(content)
    for place, bits in draw(st.lists(st.tuples(_places(content), st.integers(1, 255)), min_size=1, max_size=8)):
        if flipped:
            flipped[place % len(flipped)] ^= bits
    return bytes(flipped)


def _truncated(content: bytes) -> st.SearchStrategy[bytes]:
    return _places(content).map(lambda end: content[:end])


def _without_a_piece(content: bytes) -> st.SearchStrategy[bytes]:
    return st.builds(lambda start, length: content[:start] + content[start + length :], _places(content), SHORT)


def _with_more(content: bytes) -> st.SearchStrategy[bytes]:
    more = st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=16)
    return st.builds(lambda start, more: content[:start] + more + content[start:], _places(content), more)


def _with_a_piece_repeated(content: bytes) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda start, length, times: content[:start] + content[start : start + length] * times + content[start:],
        *(_places(content), st.integers(1, 256), st.integers(2, 5)),
    )


@st.composite
def _lines(draw, content: bytes) -> bytes:
    """Delete, repeat or swap lines."""
    lines = content.splitlines(keepends=True) or [b""]
    i, j = (draw(_places(lines)) % len(lines) for _ in range(2))
    kind = draw(st.integers(0, 2))
    if kind == 0:
        del lines[i]
    elif kind == 1:
        lines.insert(j, lines[i])
    else:
        lines[i], lines[j] = lines[j], lines[i]
    return b"".join(lines)


def _with_another_number(content: bytes) -> st.SearchStrategy[bytes]:
    """Put another number in the place of one that is written as text, in binary files mostly one of the header."""
    found = [match.span() for match in NUMBER.finditer(content[: 1 << 16])]
    if not found:
        return _flipped(content)
    spans = st.sampled_from(found[:50]) | st.sampled_from(found)
    return st.builds(
        lambda span, number: content[: span[0]] + number + content[span[1] :], spans, st.sampled_from(NUMBERS)
    )


@st.composite
def _with_another_integer(draw, content: bytes) -> bytes:
    """Overwrite four or eight bytes with an extreme whole number, as lengths and offsets in binary files are."""
    size, start = draw(st.sampled_from([4, 8])), draw(_places(content))
    value = draw(st.sampled_from([0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]))
    return content[:start] + value.to_bytes(size, "little") + content[start + size :]


SHORT = st.integers(1, 64)
DAMAGES = (
    *(_truncated, _flipped, _without_a_piece, _with_more, _with_a_piece_repeated, _lines),
    *(_with_another_number, _with_another_number, _with_another_integer),
)


# ---- By their structure ----


@st.composite
def _json_of_another_value(draw, content: bytes) -> bytes:
    """Put something hostile into the place of one value of a JSON text, which stays well formed."""
    try:
        values = json.loads(content)
    except ValueError:
        return draw(_damaged(content))
    return json.dumps(draw(_hostile(values))).encode()


@st.composite
def _hostile(draw, values: object) -> object:
    """Change JSON ``values`` at one place, which may be in a text that is JSON of its own."""
    if not isinstance(values, dict | list) or not values:
        return draw(st.sampled_from(HOSTILE_VALUES))
    key = draw(st.sampled_from(list(values) if isinstance(values, dict) else range(len(values))))
    kind = draw(st.integers(0, 9))
    changed = values.copy()
    if kind == 0:
        del changed[key]
    elif kind == 1 and isinstance(values, list):
        changed *= draw(st.integers(2, 4))
    elif kind == 1:
        changed[f"{key}x"] = values[key]
    elif kind < 5:
        changed[key] = draw(st.sampled_from(HOSTILE_VALUES))
    elif isinstance(values[key], str) and values[key][:1] in ("{", "["):
        changed[key] = draw(_json_of_another_value(values[key].encode())).decode(errors="replace")
    else:
        changed[key] = draw(_hostile(values[key]))
    return changed


@st.composite
def _another_header(draw, content: bytes) -> bytes:
    """Damage the header of a safetensors file and give it its right length, so that what it says is believed."""
    header, rest = _split(content)
    header = draw(_damaged(header) | _json_of_another_value(header))
    return struct.pack("<Q", len(header)) + header + rest


@st.composite
def _another_word(draw, content: bytes) -> bytes:
    """Put a hostile number into the tensors of a safetensors file."""
    start = (len(content) - len(_split(content)[1]) + draw(_places(content))) & ~7
    word = struct.pack("<q", draw(st.sampled_from(HOSTILE_NUMBERS)))
    return (content[:start] + word + content[start + 8 :])[: len(content)]


@st.composite
def _another_tensor(draw, content: bytes) -> bytes:
    """Change one tensor of a safetensors file, lose it or rename it; the file stays well formed."""
    tensors = safetensors.torch.load(content)
    kind = draw(st.sampled_from(sorted({name.partition(".")[0] for name in tensors})))
    name = draw(st.sampled_from(sorted(name for name in tensors if name.partition(".")[0] == kind)))
    tensor = tensors.pop(name)
    change = draw(st.sampled_from(["lose", "rename", *CHANGES]))
    if change == "rename":
        tensors[f"{name}x"] = tensor
    elif change != "lose":
        tensors[name] = CHANGES[change](tensor)
    return safetensors.torch.save(tensors, json.loads(_split(content)[0]).get("__metadata__"))


@st.composite
def _another_value(draw, content: bytes) -> bytes:
    """Change a value of a file that torch wrote, which stays one."""
    values = draw(_hostile(torch.load(io.BytesIO(content), weights_only=True)))
    file = io.BytesIO()
    torch.save(values, file)
    return file.getvalue()


@st.composite
def _another_member(draw, content: bytes) -> bytes:
    """Damage a member of an archive, whose checksum then is that of the damaged one."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(member.filename, archive.read(member)) for member in archive.infolist()]
    chosen = draw(st.integers(0, len(members) - 1))
    repacked = io.BytesIO()
    with zipfile.ZipFile(repacked, "w") as archive:
        for i, (name, data) in enumerate(members):
            archive.writestr(name, draw(damaged_files(name, data)) if i == chosen else data)
    return repacked.getvalue()


def _split(content: bytes) -> tuple[bytes, bytes]:
    """Return the header and the tensors of a safetensors file."""
    end = 8 + int.from_bytes(content[:8], "little")
    return content[8:end], content[end:]


INSIDE = {
    ".json": (_json_of_another_value,),
    ".npz": (_another_member,),
    ".pt": (_another_member, _another_value, _another_value),
    ".safetensors": (_another_header, _another_tensor, _another_word),
    ".zip": (_another_member,),
}
