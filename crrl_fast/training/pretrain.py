"""A pretraining run: its stages in order, with probe, log, display and checkpoints."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips, resident_split
from crrl_fast.data.catalog import open_data
from crrl_fast.data.frame_format import FrameFormat
from crrl_fast.data.store import Store
from crrl_fast.evaluation.features import FeatureSet, extract_features
from crrl_fast.evaluation.knn import nearest_neighbour_accuracy
from crrl_fast.run import OWN_STORE, RunConfig, RunFolder
from crrl_fast.seeding import seed_everything
from crrl_fast.training.display import TrainingDisplay
from crrl_fast.training.distributed import Ranks, joined_ranks
from crrl_fast.training.log import MetricsLog
from crrl_fast.training.loop import StageLoop
from crrl_fast.training.request import PretrainRequest
from crrl_fast.training.stages import ContrastiveMotionLearner, InformationFuser, JointLearner, SequenceReconstructor
from crrl_fast.versions import software_versions


def pretrain(request: PretrainRequest, console: Console) -> RunFolder:
    """Run the stages and leave a run folder.

    Under torchrun all its processes train together, and all return the folder; only the first writes and prints.

    Raises:
        ConfigError: the split or the run folder is not usable.
        DataError: the store is missing or damaged.
        TrainingError: a loss is no longer finite, or another process has ended.
    """
    with joined_ranks(request.device) as ranks:
        console.quiet |= not ranks.is_first
        return _pretrain(replace(request, out=ranks.from_first(request.out)), console, ranks)


def _pretrain(request: PretrainRequest, console: Console, ranks: Ranks) -> RunFolder:
    store, path = _open(request, ranks)
    clips = store.processed(request.recipe.steps())
    train, test = resident_split(clips, request.split, request.device)
    config = RunConfig(
        data=str(path.resolve()),
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
    )
    ranks.together(partial(_create, config, request, store), here=ranks.is_first)
    run = RunFolder(request.out, config)
    probe = _NearestNeighbourProbe(store, train, test, request)
    console.print(
        f"{store.info.dataset}: {len(train)} training clips, {len(test)} test clips, "
        f"{int(clips.lengths.max())} frames at most; {request.device.type}, {_workers(ranks)}; "
        f"run folder {run.path}",
        highlight=False,
        soft_wrap=True,
    )
    epochs = request.recipe.epochs
    modules: dict[str, torch.nn.Module] = {}
    with ExitStack() as stack:
        log = stack.enter_context(MetricsLog(run.path)) if ranks.is_first else None
        display = stack.enter_context(TrainingDisplay(console, epochs * len(request.stages), len(train)))
        for stage in request.stages:
            generator = seed_everything(request.seed, stage)
            module = _build_stage(stage, train, request.recipe, modules).to(request.device)
            modules[stage] = module
            ranks.seed_noise(request.seed, stage)
            display.start_stage(stage)

            def on_epoch(record: dict[str, Any], module: torch.nn.Module = module) -> None:
                if log is not None:
                    record.update(probe(module, record["epoch"]))
                    log.write(record)
                    display.epoch(record, epochs)
                ranks.wait()

            loop = StageLoop(stage, module, train, request.recipe, generator, ranks)
            loop.run(on_step=display.step, on_epoch=on_epoch)
            ranks.together(partial(run.save_stage, stage, module), here=ranks.is_first)
    return run


def _open(request: PretrainRequest, ranks: Ranks) -> tuple[Store, Path]:
    """Return the store to train on and where it lies, or will lie."""
    if isinstance(request.data, Store):
        return request.data, request.out / OWN_STORE
    # One process of each machine comes first: the embedded data set may have to be generated.
    ranks.together(partial(open_data, request.data), here=ranks.local_rank == 0)
    opened = ranks.together(partial(open_data, request.data))
    assert opened is not None
    return opened


def _create(config: RunConfig, request: PretrainRequest, store: Store) -> None:
    """Make the run folder, with the store in it where that was given in memory."""
    RunFolder.create(request.out, config)
    if isinstance(request.data, Store):
        store.save(Path(config.data))


def _workers(ranks: Ranks) -> str:
    threads = f"{torch.get_num_threads()} threads"
    return threads if ranks.is_alone else f"{ranks.size} processes of {threads}"


def _build_stage(
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
