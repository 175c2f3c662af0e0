"""Which run is gone on with, and from which of its checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from crrl_fast.config import Recipe
from crrl_fast.data.info import StoreInfo
from crrl_fast.errors import CheckpointError, ConfigError, DataError
from crrl_fast.files import file_digest
from crrl_fast.run import RunConfig, RunFolder, align_of_before
from crrl_fast.training.checkpoint import Checkpoint, checkpoints_in, place_of, read_checkpoint
from crrl_fast.training.request import PretrainRequest


def run_to_resume(request: PretrainRequest, config: RunConfig, info: StoreInfo) -> RunFolder | None:
    """Return the run to go on with; None where a new one is to be made.

    Args:
        request: names candidates.
        config: what a new run would be started with.
        info: of the store to train on.

    Raises:
        ConfigError: the candidate is no run folder, or was started otherwise.
    """
    for path in request.candidates:
        try:
            run = RunFolder.open(path)
        except ConfigError:
            if request.is_search:
                continue
            raise
        found = differences(run.config.record(), config.record(), info)
        if not found or (request.force and not request.is_search):
            return run
        if not request.is_search:
            raise ConfigError(
                f"{path}: was started otherwise: {'; '.join(found)}. Ask for the same, or go on with what is asked for "
                "now with --force"
            )
    return None


def differences(before: dict[str, object], now: dict[str, object], info: StoreInfo) -> list[str]:
    """Return in which fields that decide the result two configs, as records, differ; one phrase each.

    Args:
        before: of a run that was started.
        now: what is asked for.
        info: of the store that ``now`` trains on; a split that is not named is its first.
    """
    then, asked = _deciding(before, info), _deciding(now, info)
    return [
        f"{name} {_shown(then.get(name))}, now {_shown(asked.get(name))}"
        for name in {**then, **asked}
        if then.get(name) != asked.get(name)
    ]


def where_saved(run: Path) -> str:
    """Return how far a run is saved, in words that something may follow; nothing is read."""
    saved = checkpoints_in(run)
    if not saved:
        return f"{run} has no checkpoint yet"
    return f"{run} is saved up to {place_of(saved[-1])}"


def how_to_go_on(run: Path, options: str = "") -> str:
    """Return how far a run is saved and how it is gone on with, in words.

    Args:
        run: the run folder.
        options: of the recipe, that differ from those that the run was started with.
    """
    forced = f" {options} --force" if options else ""
    then = "goes on from there" if checkpoints_in(run) else "begins it anew"
    return f"{where_saved(run)}: `crrl-fast pretrain --resume {run}{forced}` {then}"


def newest_usable(run: RunFolder, report: Callable[[str], None]) -> Checkpoint | None:
    """Return the newest checkpoint that is whole; None where the run has none at all.

    Args:
        run: the run.
        report: called with a line for each that is passed over.

    Raises:
        CheckpointError: there are checkpoints, but none is whole.
    """
    problems: list[str] = []
    paths = checkpoints_in(run.path)
    for path in reversed(paths):
        try:
            checkpoint = read_checkpoint(path)
            _check_finished(run, checkpoint)
        except CheckpointError as error:
            problems.append(str(error))
            if len(problems) < len(paths):
                report(f"{error}: the checkpoint before it is used")
        else:
            return checkpoint
    if problems:
        raise CheckpointError(f"{run.path}: no checkpoint is usable: {'; '.join(problems)}")
    return None


def _check_finished(run: RunFolder, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint that goes on from stages whose weights are no longer what they were."""
    for stage, digest in checkpoint.finished.items():
        file = run.stage_file(stage)
        try:
            if file_digest(file) != digest:
                raise CheckpointError(f"{file}: altered since the checkpoints after it were written")
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from error
        except DataError as error:
            raise CheckpointError(str(error)) from error


def _deciding(record: dict[str, object], info: StoreInfo) -> dict[str, object]:
    recipe = record.get("recipe")
    values = {
        "data": record.get("data_sha256"),
        "split": record.get("split") or next(iter(info.splits), None),
        "stages": record.get("stages"),
        "seed": record.get("seed"),
        "probe_every": record.get("probe_every"),
        **asdict(Recipe(align=align_of_before(info.preprocessing))),  # as a run of before a field was there did
        **(recipe if isinstance(recipe, dict) else {}),
    }
    return json.loads(json.dumps(values))  # type: ignore[no-any-return]  # tuples and lists are then the same


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value[:12] if isinstance(value, str) else str(value)
