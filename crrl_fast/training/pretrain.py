"""A pretraining run: its stages in order, with probe, log, display and checkpoints, from the start or a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors import SafetensorError

from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.data.file_version import FileWatch
from crrl_fast.data.frame_format import FrameFormat
from crrl_fast.data.info import StoreInfo
from crrl_fast.data.store import Store
from crrl_fast.determinism import deterministic_algorithms
from crrl_fast.errors import CheckpointError, ConfigError, CrrlError, DataError, DeviceMemoryError, TrainingError
from crrl_fast.evaluation.features import FeatureSet, extract_features, fit_whitening
from crrl_fast.evaluation.knn import nearest_neighbour_accuracy
from crrl_fast.files import file_digest
from crrl_fast.lock import FolderLock, folder_lock
from crrl_fast.memory import device_memory, is_out_of_memory
from crrl_fast.models import FeatureEncoder, MotionEncoder
from crrl_fast.run import OWN_STORE, RunConfig, RunFolder, with_feature
from crrl_fast.seeding import seed_everything
from crrl_fast.training.checkpoint import Checkpoint, remove_leftovers
from crrl_fast.training.data import load_training_data
from crrl_fast.training.display import TrainingDisplay
from crrl_fast.training.distributed import Ranks, joined_ranks
from crrl_fast.training.keeper import CheckpointKeeper
from crrl_fast.training.log import MetricsLog
from crrl_fast.training.loop import StageLoop
from crrl_fast.training.request import PretrainRequest
from crrl_fast.training.resume import differences, how_to_go_on, newest_usable, run_to_resume
from crrl_fast.training.stages import ContrastiveMotionLearner, InformationFuser, JointLearner, SequenceReconstructor
from crrl_fast.training.state import StageState
from crrl_fast.training.stopping import Interruption, StopSignals
from crrl_fast.versions import software_versions

MAX_SKIPPED = 10
"""Steps of an epoch that may be skipped because their loss or gradient is not finite, where that is asked for."""


def pretrain(request: PretrainRequest, console: Console) -> RunFolder:
    """Run the stages, or what is left of them, and leave a run folder.

    Under torchrun all its processes train together, and all return the folder; only the first writes and prints.

    Raises:
        ConfigError: the split or the run folder is not usable, or the run to go on with was started otherwise.
        DataError: the store is missing, damaged or being written, or has values that are not finite.
        CheckpointError: the run to go on with has checkpoints, but none is usable.
        TrainingError: a loss is no longer finite, another process has ended, or (DeviceMemoryError) memory is lacking.
        Interruption: SIGINT or SIGTERM came; the run is saved as it was after the step that was under way.
    """
    with joined_ranks(request.device) as ranks, _Held() as held:
        held.enter_context(deterministic_algorithms(request.recipe.deterministic))
        console.quiet |= not ranks.is_first
        store, file, train, test, warning = load_training_data(request, ranks)
        info = store.info
        config = _config(request, info, len(train), ranks)
        start = ranks.from_first(partial(_begin, request, config, store, file, console, held))
        del store  # on a GPU, its frames on the host are no longer needed
        if start.is_complete:
            _say(console, f"{start.run.path}: has finished already, there is nothing left to train")
            return start.run
        if warning is not None:
            _say(console, warning)
        threads = f"{config.threads} threads"
        _say(
            console,
            f"{info.dataset}: {len(train)} training clips, {len(test)} test clips, {train.longest} frames at "
            f"most; {request.device.type}, {threads if ranks.is_alone else f'{ranks.size} processes of {threads}'}; "
            f"run folder {start.run.path}",
        )
        _Pretraining(start.run, request, console, info, file, train, test, ranks, held.lock).run(start.checkpoint)
    return start.run


class _Held(ExitStack):
    """What a run holds until it ends, with the lock of its folder on the first process."""

    lock: FolderLock | None = None


@dataclass(frozen=True)
class _Start:
    """Where a run begins, or goes on."""

    run: RunFolder
    checkpoint: Checkpoint | None = None
    is_complete: bool = False


def _begin(
    request: PretrainRequest, config: RunConfig, store: Store, file: FileWatch | None, console: Console, held: _Held
) -> _Start:
    """Lock the folder of a new run, or of one to go on with, for as long as ``held`` is open."""
    begun = run_to_resume(request, config, store.info)
    folder = request.out if begun is None else begun.path
    path = folder / OWN_STORE if file is None else file.path
    config = replace(config, data=str(path.resolve()))
    _make_folder(folder)
    held.lock = held.enter_context(folder_lock(folder))
    checkpoint = None
    if begun is None:
        run = RunFolder.create(folder, config)
    else:
        checkpoint = _checkpoint_of(begun, request, console)
        if _is_complete(begun, config, checkpoint):
            return _Start(begun, is_complete=True)
        remove_leftovers(folder)
        run = begun if begun.config == config else begun.reconfigured(config)
        _say(console, _going_on(begun, config, checkpoint))
    if file is None and not path.exists():
        store.save(path)
    return _Start(run, checkpoint)


class _Pretraining:
    """The stages of a run whose folder the first process has locked."""

    def __init__(
        self,
        run: RunFolder,
        request: PretrainRequest,
        console: Console,
        info: StoreInfo,
        file: FileWatch | None,
        train: ResidentClips,
        test: ResidentClips,
        ranks: Ranks,
        lock: FolderLock | None,
    ) -> None:
        self._lock = lock
        self._ranks = ranks
        self._run = run
        self._request = request
        self._recipe = request.recipe
        self._info = info
        self._file = file
        self._train = train
        self._console = console
        self._probe = _NearestNeighbourProbe(info, train, test, request)
        self._keeper = CheckpointKeeper(run.path, request.checkpoints)
        self._modules: dict[str, torch.nn.Module] = {}
        self._finished: dict[str, str] = {}

    def run(self, checkpoint: Checkpoint | None) -> None:
        """Train from ``checkpoint``, or from the start where there is none."""
        stages = self._request.stages
        first = 0 if checkpoint is None else stages.index(checkpoint.stage)
        epochs = self._run.config.epochs
        with ExitStack() as stack:
            if self._ranks.is_first:
                self._log = stack.enter_context(MetricsLog(self._run.path, checkpoint.metrics if checkpoint else ""))
                self._stop = stack.enter_context(StopSignals(once=not self._ranks.is_alone))
            display = TrainingDisplay(self._console, epochs * len(stages), len(self._train))
            self._display = stack.enter_context(display)
            for stage in stages[:first]:
                self._ranks.together(partial(self._load_stage, stage))
            if checkpoint is not None:
                batches = min(checkpoint.state.step * self._recipe.batch_size, len(self._train))
                display.skip(first * epochs + checkpoint.state.epoch - 1, batches)
            for stage in stages[first:]:
                with self._faults_told(stage):
                    self._train_stage(stage, checkpoint if checkpoint and stage == checkpoint.stage else None)

    @contextmanager
    def _faults_told(self, stage: str) -> Iterator[None]:
        """Add to whatever ends a stage how far the run is saved, and how it is gone on with."""
        try:
            yield
        except CheckpointError as error:
            raise CheckpointError(f"{self._run.path}: {error}") from error
        except ConfigError:  # which says itself whether it can be gone on with
            raise
        except CrrlError as error:
            options = error.options if isinstance(error, TrainingError) else ""
            raise type(error)(f"{error}; {how_to_go_on(self._run.path, options)}") from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceMemoryError(
                f"{stage}: out of memory between training steps, on {device_memory(self._request.device)}: end other "
                f"programs there; {how_to_go_on(self._run.path)}"
            ) from error

    def _train_stage(self, stage: str, checkpoint: Checkpoint | None) -> None:
        generator = seed_everything(self._request.seed, stage)
        module = self._build_stage(stage)
        skips = MAX_SKIPPED if self._request.on_nonfinite == "skip" else 0
        loop = StageLoop(stage, module, self._train, self._recipe, generator, self._ranks, skips=skips)
        if checkpoint is not None:
            otherwise = differences(dict(checkpoint.config), self._run.config.record(), self._info)
            loop.load_state(checkpoint.state, restart_epoch=bool(otherwise))
        self._ranks.seed_noise(self._request.seed, stage if checkpoint is None else _place(stage, checkpoint.state))
        self._display.start_stage(stage)

        def on_step(clips: int) -> None:
            self._display.step(clips)
            if self._ranks.is_first and (self._stop.received is not None or self._keeper.is_due_after_step()):
                self._save(loop, module)

        def on_epoch(record: dict[str, Any]) -> None:
            if self._ranks.is_first:
                end_epoch(record)
            self._ranks.wait()  # for the first, which may take longer than a step is waited for

        def end_epoch(record: dict[str, Any]) -> None:
            record.update(self._probe(module, record["epoch"]))
            self._log.write(record)
            self._display.epoch(record, self._run.config.epochs)
            self._look_at_the_store()
            is_due = self._keeper.is_due_after_epoch(record["epoch"], self._run.config.epochs)
            if self._stop.received is not None or is_due:
                self._save(loop, module)

        loop.run(on_step=on_step, on_epoch=on_epoch, on_skip=lambda line: _say(self._console, line))
        self._finished[stage] = self._ranks.from_first(lambda: self._finish_stage(stage, module))

    def _finish_stage(self, stage: str, module: torch.nn.Module) -> str:
        encoder = _with_fitted_feature(module, self._train, self._recipe, self._run.config.frames)
        return file_digest(self._run.save_stage(stage, module, encoder))

    def _look_at_the_store(self) -> None:
        """Say what has happened to the file since it was read; the run needs it no more."""
        news = self._file.news() if self._file else None
        if news is not None:
            assert self._file is not None
            _say(
                self._console,
                f"{self._file.path} {news}: this run goes on with what it read (hash {self._info.sha256[:12]}); to "
                "resume or evaluate it later, the file must be there again as it was",
            )

    def _save(self, loop: StageLoop, module: torch.nn.Module) -> None:
        loop.check()
        if self._lock is not None:
            self._lock.keep()
        state = loop.state()
        config = self._run.config.record()
        self._keeper.save(Checkpoint(loop.name, state, config, dict(self._finished), self._log.text))
        if self._stop.received is not None:
            where = _place(loop.name, state) if state.step else loop.name
            raise Interruption(
                self._stop.received,
                f"stopped by {self._stop.received.name} and saved at {where}: "
                f"`crrl-fast pretrain --resume {self._run.path}` goes on",
            )

    def _build_stage(self, stage: str) -> torch.nn.Module:
        module = _new_module(stage, self._train, self._recipe, self._modules).to(self._request.device)
        self._modules[stage] = module
        return module

    def _load_stage(self, stage: str) -> None:
        """Take over a stage that finished earlier."""
        file = self._run.stage_file(stage)
        try:
            self._finished[stage] = file_digest(file)
            if stage == "cml" and "inf" in self._request.stages:  # the only one that a later stage learns from
                self._build_stage(stage).load_state_dict(self._run.load_stage(stage))
        except (OSError, SafetensorError, DataError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{file}: not usable, and later stages need it ({reason})") from error


def _config(request: PretrainRequest, info: StoreInfo, clips: int, ranks: Ranks) -> RunConfig:
    return RunConfig(
        data="",
        data_sha256=info.sha256,
        dataset=info.dataset,
        frames=FrameFormat.of(info),
        split=request.split,
        stages=request.stages,
        recipe_name=request.recipe_name,
        recipe=request.recipe,
        seed=request.seed,
        device=request.device.type,
        threads=torch.get_num_threads(),
        versions=software_versions(),
        fusion=request.fusion,
        probe_every=request.probe_every,
        on_nonfinite=request.on_nonfinite,
        checkpoint_every=request.checkpoints.every,
        checkpoint_minutes=request.checkpoints.minutes,
        keep=request.checkpoints.keep,
        processes=ranks.size,
        training_clips=clips,
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot make the run folder ({error.strerror})") from error


def _checkpoint_of(run: RunFolder, request: PretrainRequest, console: Console) -> Checkpoint | None:
    """Return the checkpoint to go on from; None starts at the beginning."""
    checkpoint = newest_usable(run, lambda line: _say(console, line))
    if checkpoint is not None and checkpoint.stage not in request.stages:
        raise ConfigError(f"{run.path}: its checkpoint is of stage {checkpoint.stage!r}, which is not asked for")
    return checkpoint


def _is_complete(run: RunFolder, config: RunConfig, checkpoint: Checkpoint | None) -> bool:
    if not all(map(run.has_finished, config.stages)):
        if checkpoint is None and any(map(run.has_finished, config.stages)):
            raise CheckpointError(f"{run.path}: has finished stages but no checkpoint, so it cannot be gone on with")
        return False
    return checkpoint is None or (checkpoint.stage == config.stages[-1] and checkpoint.state.epoch > config.epochs)


def _going_on(run: RunFolder, config: RunConfig, checkpoint: Checkpoint | None) -> str:
    at = "the beginning, for it has no checkpoint"
    if checkpoint is not None:
        at = _place(checkpoint.stage, checkpoint.state)
    before = run.config
    changed = [
        f"{name} {then} and now {now}"
        for name, then, now in (
            ("device", before.device, config.device),
            ("threads", before.threads, config.threads),
            ("processes", before.processes, config.processes),
            *((name, before.versions.get(name), version) for name, version in config.versions.items()),
        )
        if then != now
    ]
    note = f"; it began with {', '.join(changed)}, so last bits may differ" if changed else ""
    return f"{run.path}: going on from {at}{note}"


def _place(stage: str, state: StageState) -> str:
    return f"{stage} epoch {state.epoch}, step {state.step}"


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True, markup=False)


def _new_module(
    stage: str, train: ResidentClips, recipe: Recipe, modules: dict[str, torch.nn.Module]
) -> torch.nn.Module:
    if stage == "ser":
        return SequenceReconstructor(train.width, recipe)
    if stage == "cml":
        return ContrastiveMotionLearner(train.width, recipe)
    if stage == "joint":
        return JointLearner(train.width, recipe)
    teacher = modules["cml"]
    assert isinstance(teacher, ContrastiveMotionLearner)
    return InformationFuser(train.width, recipe, extract_features(teacher.encoder, train))


def _with_fitted_feature(
    module: torch.nn.Module, train: ResidentClips, recipe: Recipe, frames: FrameFormat
) -> MotionEncoder | FeatureEncoder:
    """Return a stage's encoder with the recipe's clip feature, whitened by the training clips."""
    encoder = module.get_submodule("encoder")
    assert isinstance(encoder, MotionEncoder)
    fitted = with_feature(encoder, recipe, frames).to(train.device)
    fit_whitening(fitted, train, recipe)
    return fitted


class _NearestNeighbourProbe:
    """The 1-NN score of a stage's encoder every few epochs and at the last one, where there are labels to score by."""

    def __init__(self, info: StoreInfo, train: ResidentClips, test: ResidentClips, request: PretrainRequest) -> None:
        self._parts = train, test
        self._num_classes = len(info.class_names)
        self._frames = FrameFormat.of(info)
        self._recipe = request.recipe
        self._epochs = request.recipe.epochs_on(len(train))
        labelled = all(len(part) and bool((part.labels >= 0).any()) for part in self._parts)
        self._every = request.probe_every if labelled else 0

    def __call__(self, module: torch.nn.Module, epoch: int) -> dict[str, float]:
        if self._every == 0 or (epoch % self._every and epoch != self._epochs):
            return {}
        encoder = _with_fitted_feature(module, self._parts[0], self._recipe, self._frames)
        features = FeatureSet.extract(encoder, *self._parts, self._num_classes)
        return {"knn": nearest_neighbour_accuracy(features)}
