"""Labels as other projects keep them: class indices or one-hot rows, of any numeric type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from crrl_fast.data.clip import UNKNOWN
from crrl_fast.data.readers.arrays import Array
from crrl_fast.data.readers.pickled_arrays import AnyArray
from crrl_fast.errors import DataError

# The largest sets have under a thousand; a damaged label must not make a million class names.
_MAX_CLASSES = 10_000


@dataclass(frozen=True)
class Labels:
    """The labels of some clips, in their order.

    Attributes:
        where: file and member, for messages.
        values: class index of each clip from 0, -1 unknown; None where the file holds something else.
        count: number of classes.
    """

    where: str
    values: Sequence[int | None]
    count: int

    def at(self, index: int) -> int:
        """Return the label of a clip.

        Raises:
            DataError: it is none; the message goes on after the name of the clip.
        """
        value = self.values[index]
        if value is None:
            raise DataError(f"has a label in {self.where} that is neither a class below {_MAX_CLASSES} nor one-hot")
        return value


def unlabelled(where: str, clips: int) -> Labels:
    """Return labels that are all unknown."""
    return Labels(where, [UNKNOWN] * clips, 0)


def labels_of(where: str, rows: Iterable[object]) -> Labels:
    """Return the labels in ``rows``: numbers, arrays of one number, or one-hot arrays."""
    values: list[int | None] = []
    count = 0
    for row in rows:
        if isinstance(row, np.ndarray) and row.size != 1:
            values.append(_one_hot(row))
            count = max(count, row.size)
        else:
            value = _index(row.item() if isinstance(row, np.ndarray | np.generic) else row)
            values.append(value)
            count = max(count, 0 if value is None else value + 1)
    return Labels(where, values, count)


def read_labels(array: Array, clips: int) -> Labels:
    """Return the labels in an array of class indices, (N) or (N, 1), or of one-hot rows, (N, classes).

    Raises:
        DataError: the array has another shape or another number of rows than there are clips.
    """
    if len(array.shape) > 2 or (len(array.shape) == 2 and array.shape[1] > _MAX_CLASSES):
        raise DataError(f"{array.where}: labels of shape {array.shape}, expected (clips) or (clips, classes)")
    if len(array) != clips:
        raise DataError(f"{array.where}: {len(array)} labels for {clips} clips")
    return labels_of(array.where, array.rows())


def _one_hot(row: AnyArray) -> int | None:
    if row.dtype.kind not in "biuf":
        return None
    hot = np.flatnonzero(row)
    return int(hot[0]) if len(hot) == 1 and row.max() == 1 else None


def _index(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not UNKNOWN <= value < _MAX_CLASSES:
        return None
    return int(value) if value == int(value) else None
