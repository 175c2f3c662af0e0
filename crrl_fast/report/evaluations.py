"""The evaluations of a run, read from its ``eval/*.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crrl_fast.errors import DataError, shown
from crrl_fast.files import MALFORMED, read_limited

_MOST_RECORDS = 1000
_MOST_CLASSES = 2000
_MOST_CLIPS = 1 << 40

_TITLES = {
    "linear": "Linear probe",
    "knn": "Nearest neighbour",
    "finetune": "Fine-tuning",
    "semi": "Semi-supervised",
    "retrieval": "Retrieval",
    "transfer": "Transfer",
}


@dataclass(frozen=True)
class Figure:
    """One number of an evaluation.

    Attributes:
        name: what it is of; empty where the evaluation has but one.
        value: in percent.
        spread: standard deviation over repeated draws; None where there are none.
        note: how it came about, in a few words.
    """

    name: str
    value: float
    spread: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Stream:
    """One encoder of a late fusion.

    Attributes:
        stream: joint, motion or bone.
        encoder: which of its run.
        weight: of its scores.
        accuracy: of it alone, in percent; None where it was not recorded.
    """

    stream: str
    encoder: str
    weight: float
    accuracy: float | None


@dataclass(frozen=True)
class Evaluation:
    """One record.

    Attributes:
        file: where it stands.
        kind: ``linear``, ``knn`` and so on.
        title: the same in words.
        encoder: the encoder that was evaluated.
        protocol: the sentence that says how.
        dataset: where the clips come from; None where it was not recorded.
        split: of that data set; None where it was not recorded.
        clips: training and test clips; None where they were not recorded.
        figures: the results.
        streams: of a late fusion; empty otherwise.
        class_names: None in records of older versions.
        per_class: percent of each class, None for a class without test clips; None in records of older versions.
        confusion: (K, K) counts, rows the truth; None in records of older versions.
    """

    file: Path
    kind: str
    title: str
    encoder: str
    protocol: str
    dataset: str | None
    split: str | None
    clips: tuple[int, int] | None
    figures: tuple[Figure, ...]
    streams: tuple[Stream, ...]
    class_names: tuple[str, ...] | None
    per_class: tuple[float | None, ...] | None
    confusion: npt.NDArray[np.int64] | None


def read_evaluations(folder: Path) -> tuple[Evaluation, ...]:
    """Read all records of a folder in the order of their names; no folder is no record.

    Raises:
        DataError: a file is no record of an evaluation; the message names it.
    """
    files = sorted(islice(folder.glob("*.json"), _MOST_RECORDS + 1))
    if len(files) > _MOST_RECORDS:
        raise DataError(
            f"{folder}: holds more than {_MOST_RECORDS} records: move those elsewhere that are not to be shown"
        )
    return tuple(_read(file) for file in files)


def _read(file: Path) -> Evaluation:
    try:
        record = json.loads(read_limited(file, "record"))
        return _evaluation(file, record)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    except MALFORMED as error:
        raise DataError(
            f"{file}: not a record of an evaluation ({shown(error)}): run that evaluation again, or remove the file"
        ) from error


def _evaluation(file: Path, record: Mapping[str, Any]) -> Evaluation:
    kind = str(record["evaluation"])
    streams = tuple(
        Stream(
            str(stream.get("stream", "joint")),
            str(stream.get("encoder", "")),
            float(stream.get("weight", 1)),
            None if stream.get("accuracy") is None else float(stream["accuracy"]),
        )
        for stream in record.get("streams") or ()
    )
    title = _TITLES.get(kind, kind.capitalize())
    if streams:
        title += ", fused streams"
    if "to" in record:
        title += f" to {record['to']['dataset']}"
    names, confusion = record.get("class_names"), record.get("confusion")
    per_class = record.get("per_class")
    return Evaluation(
        file=file,
        kind=kind,
        title=title,
        encoder=str(record["encoder"]),
        protocol=str(record.get("protocol", "")),
        dataset=record.get("dataset"),
        split=record.get("split"),
        clips=_clips(record),
        figures=_figures(record),
        streams=streams,
        class_names=None if names is None else tuple(map(str, names)),
        per_class=None if per_class is None else tuple(None if x is None else float(x) for x in per_class),
        confusion=None if confusion is None else _matrix(confusion, names),
    )


def _clips(record: Mapping[str, Any]) -> tuple[int, int] | None:
    if "train_clips" not in record or "test_clips" not in record:
        return None
    return int(record["train_clips"]), int(record["test_clips"])


def _figures(record: Mapping[str, Any]) -> tuple[Figure, ...]:
    if "fractions" in record:
        return tuple(
            Figure(
                f"{fraction['percent']:g} % of the labels",
                float(fraction["mean"]),
                float(fraction["std"]),
                f"{_count(fraction.get('draws', len(fraction['accuracies'])), 'draw')} "
                f"of {_count(fraction['clips'], 'clip')}",
            )
            for fraction in record["fractions"]
        )
    accuracy = float(record["accuracy"])
    if "map" in record:
        recall = sorted((int(k), float(value)) for k, value in record.get("recall", {}).items())
        return (
            Figure("mean average precision", float(record["map"])),
            *(Figure(f"recall@{k}", value) for k, value in recall),
        )
    k = record.get("k", 1)
    return (Figure(f"k = {k}" if record["evaluation"] == "knn" and k != 1 else "", accuracy),)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _matrix(rows: object, names: object) -> npt.NDArray[np.int64]:
    if not isinstance(rows, list) or len(rows) > _MOST_CLASSES:
        raise ValueError(f"confusion is no matrix of at most {_MOST_CLASSES} classes")
    matrix = np.array(rows)
    classes = len(matrix)
    if (
        matrix.shape != (classes, classes)
        or matrix.dtype.kind not in "iu"
        or not ((matrix >= 0) & (matrix < _MOST_CLIPS)).all()
    ):
        raise ValueError("confusion is no square matrix of counts")
    if isinstance(names, list) and len(names) != classes:
        raise ValueError(f"confusion is of {classes} classes, class_names of {len(names)}")
    return matrix.astype(np.int64)
