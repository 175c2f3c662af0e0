"""What a report says of a run: read from its folder before anything is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crrl_fast.data.catalog import load_data
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError, DataError
from crrl_fast.report.evaluations import Evaluation, read_evaluations
from crrl_fast.report.metrics import StageLog, read_metrics
from crrl_fast.run import METRICS_FILE, RunConfig, RunFolder

# The record whose classes a report shows: that of the linear probe, or what comes next to it.
_CLASSES_OF = ("linear", "finetune", "knn", "semi", "retrieval")


@dataclass(frozen=True)
class Run:
    """One run of a report.

    Attributes:
        folder: where it lies.
        name: what the report calls it; unique within the report.
        encoder: the encoder that it stands for.
        stages: the log, stage after stage.
        evaluations: what was evaluated.
    """

    folder: RunFolder
    name: str
    encoder: str
    stages: tuple[StageLog, ...]
    evaluations: tuple[Evaluation, ...]

    @property
    def config(self) -> RunConfig:
        """What the run was started with."""
        return self.folder.config

    def of_classes(self) -> Evaluation | None:
        """Return the evaluation whose confusion matrix stands for the run; None where no record has one.

        The run's own encoder goes before others, the linear probe before other protocols, one stream before several,
        and the run's own split before others, which lengthen the file's name.
        """
        candidates = [e for e in self.evaluations if e.confusion is not None and e.kind in _CLASSES_OF]
        return min(
            candidates,
            key=lambda e: (
                e.encoder != self.encoder,
                bool(e.streams),
                _CLASSES_OF.index(e.kind),
                len(e.file.name),
                e.file.name,
            ),
            default=None,
        )


def read_run(folder: RunFolder, name: str, encoder: str | None) -> Run:
    """Read what is known of a run.

    Raises:
        ConfigError: no stage has finished.
        DataError: the log or a record is damaged.
    """
    default = folder.default_encoder()
    return Run(
        folder=folder,
        name=name,
        encoder=encoder or default,
        stages=read_metrics(folder.path / METRICS_FILE),
        evaluations=read_evaluations(folder.path / "eval"),
    )


def run_names(paths: Sequence[Path]) -> list[str]:
    """Name runs by their folders; by their paths where two folders are called alike.

    Raises:
        ConfigError: a run stands twice.
    """
    resolved = [path.resolve() for path in paths]
    twice = next((path for path, count in Counter(resolved).items() if count > 1), None)
    if twice is not None:
        raise ConfigError(f"{twice}: named twice: name each run once")
    folders = Counter(path.name for path in resolved)
    return [path.name if folders[path.name] == 1 else str(path) for path in resolved]


def find_stores(runs: Sequence[Run], moved: Sequence[str]) -> list[Store | str]:
    """Open the store of each run.

    Args:
        runs: the runs.
        moved: stores that lie elsewhere than where their run found them.

    Returns:
        For each run its store, or the sentence that says why there is none.

    Raises:
        ConfigError: a store in ``moved`` is of none of the runs.
        DataError: a store in ``moved`` is missing or damaged.
    """
    given = {}
    for data in moved:
        store, path, _ = load_data(data)
        if all(store.info.sha256 != run.config.data_sha256 for run in runs):
            raise ConfigError(
                f"{path}: not the store that {runs[0].folder.path} was trained on (hash {store.info.sha256[:12]}, "
                f"expected {runs[0].config.data_sha256[:12]}): name that one with --data"
            )
        given[store.info.sha256] = store
    return [given.get(run.config.data_sha256) or _recorded_store(run) for run in runs]


def _recorded_store(run: Run) -> Store | str:
    try:
        store, path, _ = load_data(run.config.data)
    except DataError as error:
        return f"the run's store cannot be read ({error})"
    if store.info.sha256 != run.config.data_sha256:
        return f"{path} is another store than the one that the run was trained on"
    return store
