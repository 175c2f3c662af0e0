"""What a store says of itself: names, layout, splits and preprocessing, as JSON in the file's metadata."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crrl_fast.data.layouts import Layout, layout_from_record, layout_record
from crrl_fast.errors import DataError, shown
from crrl_fast.files import MALFORMED

FORMAT = "crrl-fast store"
VERSION = 2
METADATA_KEY = "crrl_fast"
MAX_BODIES = 1024
_MOST_STEPS = 64
SPLIT_FIELDS = ("subject", "camera", "setup", "replication", "fold")


@dataclass(frozen=True)
class Split:
    """How clips divide into training and test: by the value of one per-clip field.

    Attributes:
        field: ``subject``, ``camera``, ``setup``, ``replication`` or ``fold``.
        train: its values in the training part.
        test: its values in the test part; None is every other known value.
    """

    field: str
    train: tuple[int, ...]
    test: tuple[int, ...] | None = None


@dataclass(frozen=True)
class StoreInfo:
    """What a store says of itself (JSON in the file's metadata).

    Attributes:
        dataset: name of the data set.
        layout: the joint layout.
        bodies: bodies M a frame; a frame has D = M * V * 3 numbers.
        class_names: name of each class, in label order; empty where there are no labels.
        clip_names: name of each clip.
        fps: frames a second of the recording, before any down-sampling; None where unknown.
        splits: named splits; the first is the default.
        preprocessing: the steps that were applied, in order, with their parameters.
        sha256: hash of the tensors' bytes; run folders record it.
    """

    dataset: str
    layout: Layout
    bodies: int
    class_names: tuple[str, ...]
    clip_names: tuple[str, ...]
    fps: float | None = None
    splits: Mapping[str, Split] = dataclasses.field(default_factory=dict)
    preprocessing: tuple[dict[str, Any], ...] = ()
    sha256: str = ""

    def to_header(self) -> str:
        """Return the JSON text that ``parse_header`` reads back."""
        values = {**asdict(self), "layout": layout_record(self.layout)}
        return json.dumps({"format": FORMAT, "version": VERSION, **values})


def parse_header(path: Path, header: str | None) -> StoreInfo:
    """Read the header of the store at ``path``; None stands for a file without one.

    Raises:
        DataError: there is no header, it is damaged, or of another version.
    """
    if header is None:
        raise DataError(f"{path}: a safetensors file, but no crrl-fast store: make one with `crrl-fast prepare`")
    try:
        values = json.loads(header)
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']!r}")
        version = values["version"]
        if version == VERSION:
            check_bodies(values["bodies"])
            return StoreInfo(
                dataset=str(values["dataset"]),
                layout=layout_from_record(values["layout"]),
                bodies=values["bodies"],
                class_names=_texts("class_names", values["class_names"]),
                clip_names=_texts("clip_names", values["clip_names"]),
                fps=None if values["fps"] is None else float(values["fps"]),
                splits={name: _parse_split(name, **split) for name, split in values["splits"].items()},
                preprocessing=_steps(values["preprocessing"]),
                sha256=str(values["sha256"]),
            )
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except MALFORMED as error:
        raise DataError(f"{path}: the store's header is damaged ({shown(error)}): prepare it again") from error
    raise DataError(
        f"{path}: store version {shown(version)}, but this crrl-fast reads version {VERSION}: prepare it again, or "
        "upgrade"
    )


def _parse_split(name: str, field: str, train: list[int], test: list[int] | None = None) -> Split:
    if field not in SPLIT_FIELDS:
        raise DataError(f"split {name!r} goes by unknown field {shown(field)}: prepare it again")
    for value in (*train, *(test or ())):
        if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
            raise DataError(f"split {name!r} has {shown(value)} where a whole number must stand")
    return Split(field, tuple(train), None if test is None else tuple(test))


def _texts(key: str, values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{key} is no list of texts")
    return tuple(values)


def _steps(values: object) -> tuple[dict[str, Any], ...]:
    if (
        not isinstance(values, list)
        or not all(isinstance(value, dict) for value in values)
        or len(values) > _MOST_STEPS
    ):
        raise ValueError("preprocessing is no list of steps")
    return tuple(values)


def check_bodies(bodies: object) -> None:
    """Raise DataError where it is no number of bodies that a frame may have."""
    if type(bodies) is not int or not 1 <= bodies <= MAX_BODIES:
        raise DataError(f"{shown(bodies)} bodies a frame, expected 1 to {MAX_BODIES}")
