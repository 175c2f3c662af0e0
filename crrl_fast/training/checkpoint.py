"""Checkpoints on disk: written whole or not at all, verified before they are used, read without running anything.

A checkpoint is three files of one name, ``NNNNNN-STAGE-eEEE-sSSSSS``, in the run's folder ``checkpoints``:

- ``.safetensors``: all tensors of the stage (see ``StageState``);
- ``.pt``: numbers and texts, a flat dictionary that ``torch.load(weights_only=True)`` reads;
- ``.sha256``: the hashes of both, as ``sha256sum --check`` takes them. It is written last: without it there is no
  checkpoint.
"""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import re
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from crrl_fast.errors import CheckpointError, CrrlError, DataError, shortened
from crrl_fast.files import MALFORMED, file_digest, read_limited, replacing, write_text, write_weights
from crrl_fast.training.state import StageState
from crrl_fast.weights import load_tensors

FOLDER = "checkpoints"

_TENSORS, _VALUES, _HASHES = ".safetensors", ".pt", ".sha256"
_STAGE = re.compile("[a-z]+")
_PATTERN = re.compile(rf"(\d{{6,}})-({_STAGE.pattern})-e(\d{{3,}})-s(\d{{5,}})")
_FORMAT = 1
_MAX_VALUES = 64 << 20
# What a flat dictionary of numbers and texts is pickled with. None of them calls or names anything, or nests.
_INSTRUCTIONS = frozenset(
    (
        *("PROTO", "EMPTY_DICT", "MARK", "SETITEM", "SETITEMS", "STOP", "BINPUT", "LONG_BINPUT", "BINGET"),
        *("LONG_BINGET", "BINUNICODE", "BININT", "BININT1", "BININT2", "BINFLOAT"),
    )
)
_KINDS: Mapping[str, type] = {
    "format": int,
    "stage": str,
    "epoch": int,
    "step": int,
    "seconds": float,
    "lr": float,
    "losses": str,
    "config": str,
    "finished": str,
    "metrics": str,
}


@dataclass(frozen=True)
class Checkpoint:
    """A run after some step of a stage.

    Attributes:
        stage: the stage under way.
        state: where it stands.
        config: the run's ``config.json`` as it was: resolved recipe, data hash, seed, versions, commit.
        finished: SHA-256 of ``STAGE.safetensors`` of the stages that had finished.
        metrics: the run's ``metrics.jsonl`` as it was.
    """

    stage: str
    state: StageState
    config: Mapping[str, Any]
    finished: Mapping[str, str]
    metrics: str


def checkpoints_in(run: Path) -> list[Path]:
    """Return the checkpoints of a run folder, the oldest first, each as the path of its hashes; unverified."""
    found = [path for path in (run / FOLDER).glob(f"*{_HASHES}") if _PATTERN.fullmatch(path.stem)]
    return sorted(found, key=number_of)


def number_of(path: Path) -> int:
    """Return the number of a checkpoint, which rises by one from each to the next."""
    match = _PATTERN.fullmatch(path.stem)
    assert match is not None, path
    return int(match[1])


def place_of(path: Path) -> str:
    """Return the stage, epoch and step of a checkpoint, by its name, in words."""
    match = _PATTERN.fullmatch(path.stem)
    assert match is not None, path
    return f"{match[2]} epoch {int(match[3])}, step {int(match[4])}"


def write_checkpoint(run: Path, number: int, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint and return the path of its hashes; it is on the disk when this returns.

    Raises:
        CrrlError: it cannot be written; nothing of it is left, and others are as they were.
    """
    state = checkpoint.state
    name = f"{number:06}-{checkpoint.stage}-e{state.epoch:03}-s{state.step:05}"
    hashes = run / FOLDER / f"{name}{_HASHES}"
    values = {
        "format": _FORMAT,
        "stage": checkpoint.stage,
        "epoch": state.epoch,
        "step": state.step,
        "seconds": state.seconds,
        "lr": state.lr,
        "losses": ",".join(state.losses),
        "config": json.dumps(checkpoint.config),
        "finished": json.dumps(checkpoint.finished),
        "metrics": checkpoint.metrics,
    }
    try:
        parts = [hashes.with_suffix(suffix) for suffix in (_TENSORS, _VALUES)]
        write_weights(parts[0], state.tensors, durable=True)
        with replacing(parts[1], durable=True) as temporary:
            temporary.write_bytes(_serialised(values))
        lines = [f"{file_digest(part)}  {part.name}\n" for part in parts]
        write_text(hashes, "".join(lines), durable=True)
    except BaseException:
        with suppress(CrrlError):
            remove_checkpoint(hashes)
        raise
    return hashes


def remove_checkpoint(hashes: Path) -> None:
    """Remove a checkpoint, its hashes first, so that no moment sees a part of it counted.

    Raises:
        CrrlError: it cannot be removed.
    """
    try:
        for suffix in (_HASHES, _VALUES, _TENSORS):
            hashes.with_suffix(suffix).unlink(missing_ok=True)
    except OSError as error:
        raise CrrlError(f"{hashes}: cannot be removed ({error.strerror})") from error


def remove_leftovers(run: Path) -> None:
    """Remove what processes that were killed left half-written; nobody else may be writing.

    Raises:
        CrrlError: something cannot be removed.
    """
    folder = run / FOLDER
    whole = {path.stem for path in checkpoints_in(run)}
    parts = [*folder.glob(f"*{_TENSORS}"), *folder.glob(f"*{_VALUES}")]
    orphans = [path for path in parts if _PATTERN.fullmatch(path.stem) and path.stem not in whole]
    for path in [*orphans, *run.glob(".*.tmp"), *folder.glob(".*.tmp")]:
        try:
            path.unlink()
        except OSError as error:
            raise CrrlError(f"{path}: cannot be removed ({error.strerror})") from error


def read_checkpoint(hashes: Path) -> Checkpoint:
    """Read a checkpoint from the path of its hashes.

    Nothing in the files is executed, and no more is allocated than a small multiple of their sizes, which are limited.

    Raises:
        CheckpointError: a part is missing, truncated or altered, or is no part of a checkpoint.
    """
    try:
        _verify(hashes)
        values = _read_values(hashes.with_suffix(_VALUES))
        tensors = load_tensors(hashes.with_suffix(_TENSORS))
        config, finished = json.loads(values["config"]), json.loads(values["finished"])
    except OSError as error:
        raise CheckpointError(f"{error.filename or hashes}: cannot be read ({error.strerror})") from error
    except (SafetensorError, DataError, *MALFORMED) as error:
        raise CheckpointError(f"{hashes}: not a usable checkpoint ({shortened(str(error), 500)})") from error
    if not (isinstance(config, dict) and isinstance(finished, dict)):
        raise CheckpointError(f"{hashes}: not a usable checkpoint (its config is none)")
    if not all(map(_STAGE.fullmatch, (values["stage"], *finished))):
        raise CheckpointError(f"{hashes}: not a usable checkpoint (its stages are none)")
    losses = tuple(filter(None, values["losses"].split(",")))
    state = StageState(values["epoch"], values["step"], values["seconds"], values["lr"], losses, tensors)
    return Checkpoint(values["stage"], state, config, finished, values["metrics"])


def _serialised(values: dict[str, Any]) -> bytes:
    """In memory, because torch's writer reports a full disk as an internal error."""
    file = io.BytesIO()
    torch.save(values, file)
    return file.getvalue()


def _verify(hashes: Path) -> None:
    lines = [line.partition("  ") for line in read_limited(hashes, "record").decode().splitlines()]
    recorded = {name: digest for digest, _, name in lines}
    parts = [hashes.with_suffix(suffix) for suffix in (_TENSORS, _VALUES)]
    if recorded.keys() != {part.name for part in parts}:
        raise CheckpointError(f"{hashes}: not the hashes of {' and '.join(part.name for part in parts)}")
    for part in parts:
        if not part.is_file():
            raise CheckpointError(f"{part}: missing")
        if file_digest(part) != recorded[part.name]:
            raise CheckpointError(f"{part}: truncated or altered (its SHA-256 is not that of {hashes.name})")


def _read_values(path: Path) -> dict[str, Any]:
    """Read the numbers and texts.

    ``weights_only`` admits some functions whose arguments decide how much they allocate, and archives may unpack to far
    more than their size. So both are ruled out before torch sees the file.
    """
    if path.stat().st_size > _MAX_VALUES:
        raise CheckpointError(f"{path}: {path.stat().st_size} bytes, more than a checkpoint's state ever has")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("it is compressed")
            (program,) = (member for member in members if member.filename.endswith("data.pkl"))
            used = {opcode.name for opcode, _, _ in pickletools.genops(archive.read(program))}
        if not used <= _INSTRUCTIONS:
            raise ValueError(f"its pickle asks for {', '.join(sorted(used - _INSTRUCTIONS))}; nothing was run")
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, EOFError, pickle.UnpicklingError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{path.name}: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict) or {name: type(value) for name, value in values.items()} != dict(_KINDS):
        raise ValueError(f"{path.name} does not hold {', '.join(_KINDS)}")
    if values["format"] != _FORMAT:
        raise ValueError(f"{path.name} is of format {values['format']}, this version reads {_FORMAT}")
    if values["epoch"] < 1 or values["step"] < 0:
        raise ValueError(f"{path.name} stands at epoch {values['epoch']}, step {values['step']}")
    return values
