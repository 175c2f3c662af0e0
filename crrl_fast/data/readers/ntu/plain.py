"""The parser of raw NTU files in plain Python: its specification, its fallback and its baseline."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

JOINTS = 25
BODY_COLUMNS = 10
JOINT_COLUMNS = 12  # x y z, depth x y, colour x y, orientation w x y z, tracking state
MAX_FRAMES = 1_000_000
MAX_BODIES = 64  # the sensor tracks 6
_UINT64_MAX = (1 << 64) - 1
_MAX_NUMBER_TEXT = 64
_MAX_SHOWN = 20
_LARGEST = float(np.finfo(np.float32).max)

Parsed = tuple[npt.NDArray[np.int32], npt.NDArray[np.uint64], npt.NDArray[np.float32]]


def parse_ntu_skeleton(content: bytes) -> Parsed:
    """Parse one raw file; ``crrl_fast._C.parse_ntu_skeleton`` has the same contract.

    Of a joint's columns the first three are read, and the others only counted. A number is finite, of at most 64
    characters, and rounded to float64, then to float32.

    Args:
        content: of the file.

    Returns:
        The number of bodies of each frame (T); and, for the B bodies of all frames in file order, their tracking ids
        (B) and their coordinates (B, 25, 3) in metres.

    Raises:
        ValueError: the text is malformed; the message is ``line N: what is wrong there``.
    """
    return _Parser(content).parse()


class _Parser:
    def __init__(self, content: bytes) -> None:
        lines = content.split(b"\n")
        if not lines[-1]:
            lines.pop()
        self._lines: Iterator[bytes] = iter(lines)
        self._line = 0
        self._frames = 0
        self._bodies: list[int] = []
        self._ids: list[int] = []
        self._coords: list[float] = []

    def parse(self) -> Parsed:
        self._frames = self._next_count("the number of frames", MAX_FRAMES)
        for _ in range(self._frames):
            self._parse_frame()
        for line in self._lines:
            self._line += 1
            if line.split():
                raise self._error(f"there is more after the last of {self._frames} frames")
        return (
            np.array(self._bodies, dtype=np.int32),
            np.array(self._ids, dtype=np.uint64),
            np.array(self._coords, dtype=np.float32).reshape(-1, JOINTS, 3),
        )

    def _parse_frame(self) -> None:
        bodies = self._next_count("the number of bodies", MAX_BODIES)
        in_frame: set[int] = set()
        for _ in range(bodies):
            header = self._next_columns("a body", BODY_COLUMNS)
            body = self._to_count(header[0], "the body id", _UINT64_MAX)
            if body in in_frame:
                raise self._error(f"body {body} stands twice in a frame")
            in_frame.add(body)
            self._ids.append(body)
            joints = self._next_count("the number of joints", _UINT64_MAX)
            if joints != JOINTS:
                raise self._error(f"the body has {joints} joints, expected {JOINTS}")
            for _ in range(JOINTS):
                columns = self._next_columns("a joint", JOINT_COLUMNS)
                self._coords += (self._to_number(columns, 0), self._to_number(columns, 1), self._to_number(columns, 2))
        self._bodies.append(bodies)

    def _next_columns(self, what: str, expected: int) -> list[bytes]:
        self._line += 1
        line = next(self._lines, None)
        if line is None:
            raise self._error(f"the file ends after {len(self._bodies)} of {self._frames} frames")
        columns = line.split()
        if len(columns) != expected:
            raise self._error(f"{what} has {len(columns)} columns, expected {expected}")
        return columns

    def _next_count(self, what: str, largest: int) -> int:
        return self._to_count(self._next_columns(what, 1)[0], what, largest)

    def _to_count(self, word: bytes, what: str, largest: int) -> int:
        # Far longer words would make int() slow, or raise.
        count = int(word) if word.isdigit() and len(word.lstrip(b"0")) <= len(str(largest)) else None
        if count is None or count > largest:
            raise self._error(f"{what} is {_shown(word)}, not a whole number up to {largest}")
        return count

    def _to_number(self, columns: list[bytes], axis: int) -> float:
        word = columns[axis]
        try:
            number = float(word) if len(word) <= _MAX_NUMBER_TEXT else math.nan
        except ValueError:
            number = math.nan
        if not abs(number) <= _LARGEST or b"_" in word:  # float() takes 1_000
            raise self._error(f"{'xyz'[axis]} is {_shown(word)}, not a finite number")
        return number

    def _error(self, what: str) -> ValueError:
        return ValueError(f"line {self._line}: {what}")


def _shown(word: bytes) -> str:
    text = "".join(chr(byte) if 32 <= byte <= 126 else "?" for byte in word[:_MAX_SHOWN])
    return f"'{text}...'" if len(word) > _MAX_SHOWN else f"'{text}'"
