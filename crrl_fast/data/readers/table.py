"""Text files of numbers: one frame a line, as many numbers on each."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from crrl_fast.errors import DataError


def parse_table(
    where: str,
    lines: Sequence[str],
    widths: Collection[int],
    *,
    delimiter: str | None = None,
    numbers: Sequence[int] | None = None,
) -> npt.NDArray[np.float64]:
    """Return the numbers of a text as (lines, width).

    Args:
        where: the file, for messages.
        lines: of the text, without line ends.
        widths: how many numbers may stand on a line, the same on all.
        delimiter: between the numbers; None is white space.
        numbers: of the lines in the file, for messages; None counts from 1.

    Raises:
        DataError: there is no line, or one does not hold that many numbers; the message names file and line.
    """
    if not lines:
        raise DataError(f"{where}: has no frames")
    numbers = range(1, len(lines) + 1) if numbers is None else numbers
    try:
        values = np.loadtxt(lines, dtype=np.float64, delimiter=delimiter, comments=None, ndmin=2)
    except ValueError as error:
        raise _bad_line(where, lines, widths, delimiter, numbers) or DataError(f"{where}: {error}") from error
    if values.shape[1] not in widths or len(values) != len(lines):  # blank lines are passed over
        raise _bad_line(where, lines, widths, delimiter, numbers) or DataError(f"{where}: not a table of numbers")
    return values


def text_lines(content: bytes) -> list[str]:
    """Return the lines of a text file without their LF or CRLF, and without blank lines at its end."""
    text = content.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").rstrip()
    return text.split("\n") if text else []


def _bad_line(
    where: str, lines: Sequence[str], widths: Collection[int], delimiter: str | None, numbers: Sequence[int]
) -> DataError | None:
    """Return what is wrong with the first line that is not a line of numbers."""
    expected = " or ".join(map(str, sorted(widths)))
    width = None
    for number, line in zip(numbers, lines, strict=True):
        items = line.split(delimiter)
        for item in items:
            try:
                float(item)
            except ValueError:
                return DataError(f"{where}: line {number}: {item[:40]!r} is not a number")
        if len(items) not in widths:
            return DataError(f"{where}: line {number}: {len(items)} numbers, expected {expected}")
        if width not in (None, len(items)):
            return DataError(f"{where}: line {number}: {len(items)} numbers, but {width} on the lines before")
        width = len(items)
    return None
