"""A pretraining run: its stages in order, with probe, log, display and checkpoints, from the start or a checkpoint."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file

from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips, resident_split
from crrl_fast.data.catalog import open_data
from crrl_fast.data.frame_format import FrameFormat
from crrl_fast.data.store import Store
from crrl_fast.determinism import deterministic_algorithms
from crrl_fast.errors import CheckpointError, ConfigError
from crrl_fast.evaluation.features import FeatureSet, extract_features
from crrl_fast.evaluation.knn import nearest_neighbour_accuracy
from crrl_fast.files import file_digest
from crrl_fast.lock import folder_lock
from crrl_fast.run import OWN_STORE, RunConfig, RunFolder
from crrl_fast.seeding import seed_everything
from crrl_fast.training.checkpoint import Checkpoint, remove_leftovers
from crrl_fast.training.display import TrainingDisplay
from crrl_fast.training.keeper import CheckpointKeeper
from crrl_fast.training.log import MetricsLog
from crrl_fast.training.loop import StageLoop
from crrl_fast.training.request import PretrainRequest
from crrl_fast.training.resume import differences, newest_usable, run_to_resume
from crrl_fast.training.stages import ContrastiveMotionLearner, InformationFuser, JointLearner, SequenceReconstructor
from crrl_fast.training.stopping import Interruption, StopSignals
from crrl_fast.versions import software_versions

MAX_SKIPPED = 10
"""Steps of an epoch that may be skipped because their loss or gradient is not finite, where that is asked for."""


def pretrain(request: PretrainRequest, console: Console) -> RunFolder:
    """Run the stages, or what is left of them, and leave a run folder.

    Raises:
        ConfigError: the split or the run folder is not usable, or the run to go on with was started otherwise.
        DataError: the store is missing or damaged.
        CheckpointError: the run to go on with has checkpoints, but none is usable.
        TrainingError: a loss is no longer finite.
        Interruption: SIGINT or SIGTERM came; the run is saved as it was after the step that was under way.
    """
    store, path = (request.data, None) if isinstance(request.data, Store) else open_data(request.data)
    train, test = resident_split(store.processed(request.recipe.steps()), request.split, request.device)
    config = _config(request, store)
    begun = run_to_resume(request, config, store)
    folder = request.out if begun is None else begun.path
    path = folder / OWN_STORE if path is None else path
    config = replace(config, data=str(path.resolve()))
    _make_folder(folder)
    with folder_lock(folder), deterministic_algorithms(request.recipe.deterministic):
        checkpoint = None
        if begun is None:
            run = RunFolder.create(folder, config)
        else:
            checkpoint = _checkpoint_of(begun, request, console)
            if _is_complete(begun, request, checkpoint):
                _say(console, f"{folder}: has finished already, there is nothing left to train")
                return begun
            remove_leftovers(folder)
            run = begun if begun.config == config else begun.reconfigured(config)
            _say(console, _going_on(begun, config, checkpoint))
        if isinstance(request.data, Store) and not path.exists():
            store.save(path)
        _say(
            console,
            f"{store.info.dataset}: {len(train)} training clips, {len(test)} test clips, {train.longest} frames at "
            f"most; {request.device.type}, {torch.get_num_threads()} threads; run folder {folder}",
        )
        _Pretraining(run, request, console, store, train, test).run(checkpoint)
    return run


class _Pretraining:
    """The stages of a run whose folder this process has locked."""

    def __init__(
        self,
        run: RunFolder,
        request: PretrainRequest,
        console: Console,
        store: Store,
        train: ResidentClips,
        test: ResidentClips,
    ) -> None:
        self._run = run
        self._request = request
        self._recipe = request.recipe
        self._store = store
        self._train = train
        self._console = console
        self._probe = _NearestNeighbourProbe(store, train, test, request)
        self._keeper = CheckpointKeeper(run.path, request.checkpoints)
        self._modules: dict[str, torch.nn.Module] = {}
        self._finished: dict[str, str] = {}

    def run(self, checkpoint: Checkpoint | None) -> None:
        """Train from ``checkpoint``, or from the start where there is none."""
        stages = self._request.stages
        first = 0 if checkpoint is None else stages.index(checkpoint.stage)
        epochs = self._recipe.epochs
        with ExitStack() as stack:
            self._log = stack.enter_context(MetricsLog(self._run.path, checkpoint.metrics if checkpoint else ""))
            display = TrainingDisplay(self._console, epochs * len(stages), len(self._train))
            self._display = stack.enter_context(display)
            self._stop = stack.enter_context(StopSignals())
            for stage in stages[:first]:
                self._load_stage(stage)
            if checkpoint is not None:
                batches = min(checkpoint.state.step * self._recipe.batch_size, len(self._train))
                display.skip(first * epochs + checkpoint.state.epoch - 1, batches)
            for stage in stages[first:]:
                self._train_stage(stage, checkpoint if checkpoint and stage == checkpoint.stage else None)

    def _train_stage(self, stage: str, checkpoint: Checkpoint | None) -> None:
        generator = seed_everything(self._request.seed, stage)
        module = self._build_stage(stage)
        skips = MAX_SKIPPED if self._request.on_nonfinite == "skip" else 0
        loop = StageLoop(stage, module, self._train, self._recipe, generator, skips=skips)
        if checkpoint is not None:
            otherwise = differences(dict(checkpoint.config), self._run.config.record(), self._store)
            loop.load_state(checkpoint.state, restart_epoch=bool(otherwise))
        self._display.start_stage(stage)

        def on_step(clips: int) -> None:
            self._display.step(clips)
            if self._stop.received is not None or self._keeper.is_due_after_step():
                self._save(loop, module)

        def on_epoch(record: dict[str, Any]) -> None:
            record.update(self._probe(module, record["epoch"]))
            self._log.write(record)
            self._display.epoch(record, self._recipe.epochs)
            is_due = self._keeper.is_due_after_epoch(record["epoch"], self._recipe.epochs)
            if self._stop.received is not None or is_due:
                self._save(loop, module)

        loop.run(on_step=on_step, on_epoch=on_epoch, on_skip=lambda line: _say(self._console, line))
        self._finished[stage] = file_digest(self._run.save_stage(stage, module))

    def _save(self, loop: StageLoop, module: torch.nn.Module) -> None:
        loop.check()
        state = loop.state()
        config = self._run.config.record()
        self._keeper.save(Checkpoint(loop.name, state, config, dict(self._finished), self._log.text))
        if self._stop.received is not None:
            where = f"{loop.name} epoch {state.epoch}, step {state.step}" if state.step else f"{loop.name}"
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
                self._build_stage(stage).load_state_dict(load_file(file))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{file}: not usable, and later stages need it ({reason})") from error


def _config(request: PretrainRequest, store: Store) -> RunConfig:
    return RunConfig(
        data="",
        data_sha256=store.info.sha256,
        dataset=store.info.dataset,
        frames=FrameFormat.of(store.info),
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


def _is_complete(run: RunFolder, request: PretrainRequest, checkpoint: Checkpoint | None) -> bool:
    if not all(map(run.has_finished, request.stages)):
        if checkpoint is None and any(map(run.has_finished, request.stages)):
            raise CheckpointError(f"{run.path}: has finished stages but no checkpoint, so it cannot be gone on with")
        return False
    return checkpoint is None or (
        checkpoint.stage == request.stages[-1] and checkpoint.state.epoch > request.recipe.epochs
    )


def _going_on(run: RunFolder, config: RunConfig, checkpoint: Checkpoint | None) -> str:
    at = "the beginning, for it has no checkpoint"
    if checkpoint is not None:
        at = f"{checkpoint.stage} epoch {checkpoint.state.epoch}, step {checkpoint.state.step}"
    before = run.config
    changed = [
        f"{name} {then} and now {now}"
        for name, then, now in (
            ("device", before.device, config.device),
            ("threads", before.threads, config.threads),
            *((name, before.versions.get(name), version) for name, version in config.versions.items()),
        )
        if then != now
    ]
    note = f"; it began with {', '.join(changed)}, so last bits may differ" if changed else ""
    return f"{run.path}: going on from {at}{note}"


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


class _NearestNeighbourProbe:
    """The 1-NN score of a stage's encoder every few epochs and at the last one, where there are labels to score by."""

    def __init__(self, store: Store, train: ResidentClips, test: ResidentClips, request: PretrainRequest) -> None:
        self._parts = train, test
        self._num_classes = store.num_classes
        self._epochs = request.recipe.epochs
        labelled = all(len(part) and bool((part.labels >= 0).any()) for part in self._parts)
        self._every = request.probe_every if labelled else 0

    def __call__(self, module: torch.nn.Module, epoch: int) -> dict[str, float]:
        if self._every == 0 or (epoch % self._every and epoch != self._epochs):
            return {}
        features = FeatureSet.extract(module.get_submodule("encoder"), *self._parts, self._num_classes)  # type: ignore[arg-type]
        return {"knn": nearest_neighbour_accuracy(features)}
