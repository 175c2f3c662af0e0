"""A pretraining run: its stages in order, with probe, log, display and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips, resident_split
from crrl_fast.data.catalog import open_data
from crrl_fast.data.frame_format import FrameFormat
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError
from crrl_fast.evaluation.features import FeatureSet, extract_features
from crrl_fast.evaluation.knn import nearest_neighbour_accuracy
from crrl_fast.run import RunConfig, RunFolder
from crrl_fast.seeding import seed_everything
from crrl_fast.training.display import TrainingDisplay
from crrl_fast.training.log import MetricsLog
from crrl_fast.training.loop import train_stage
from crrl_fast.training.stages import ContrastiveMotionLearner, InformationFuser, SequenceReconstructor
from crrl_fast.versions import software_versions

STAGES = ("ser", "cml", "inf")


@dataclass(frozen=True)
class PretrainRequest:
    """What the user asked for.

    Attributes:
        data: data set name or path of a store.
        split: split to train on; None is the store's first.
        recipe_name: named recipe that ``recipe`` started from.
        recipe: resolved hyperparameters.
        stages: of ``ser``, ``cml`` and ``inf``; ``inf`` needs ``cml`` before it.
        out: the run folder, new or empty.
        seed: of weights, dropout and shuffling.
        device: where to train.
        probe_every: epochs between nearest-neighbour scores; 0 takes none.
    """

    data: str
    split: str | None
    recipe_name: str
    recipe: Recipe
    stages: tuple[str, ...]
    out: Path
    seed: int
    device: torch.device
    probe_every: int

    def __post_init__(self) -> None:
        """Check the stages and the probe.

        Raises:
            ConfigError: a stage is unknown, stands twice, or ``inf`` stands without ``cml`` before it.
        """
        for stage in self.stages:
            if stage not in STAGES:
                raise ConfigError(f"unknown stage {stage!r}: choose from {', '.join(STAGES)}")
        if not self.stages or len(set(self.stages)) < len(self.stages):
            raise ConfigError(f"--stages {','.join(self.stages)!r}: name each stage once, for instance cml,inf")
        if "inf" in self.stages and "cml" not in self.stages[: self.stages.index("inf")]:
            raise ConfigError("stage 'inf' distils the encoder of 'cml': put cml before it, as in --stages cml,inf")
        if self.probe_every < 0:
            raise ConfigError(f"--probe-every must be at least 0, got {self.probe_every}")


def pretrain(request: PretrainRequest, console: Console) -> RunFolder:
    """Run the stages and leave a run folder.

    Raises:
        ConfigError: the split or the run folder is not usable.
        DataError: the store is missing or damaged.
        TrainingError: a loss is no longer finite.
    """
    store, path = open_data(request.data)
    clips = store.processed(request.recipe.steps())
    train, test = resident_split(clips, request.split, request.device)
    run = RunFolder.create(
        request.out,
        RunConfig(
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
        ),
    )
    probe = _NearestNeighbourProbe(store, train, test, request)
    console.print(
        f"{store.info.dataset}: {len(train)} training clips, {len(test)} test clips, "
        f"{int(clips.lengths.max())} frames at most; {request.device.type}, {torch.get_num_threads()} threads; "
        f"run folder {run.path}",
        highlight=False,
        soft_wrap=True,
    )
    epochs = request.recipe.epochs
    modules: dict[str, torch.nn.Module] = {}
    with MetricsLog(run.path) as log, TrainingDisplay(console, epochs * len(request.stages), len(train)) as display:
        for stage in request.stages:
            generator = seed_everything(request.seed, stage)
            module = _build_stage(stage, train, request.recipe, modules).to(request.device)
            modules[stage] = module
            display.start_stage(stage)

            def on_epoch(record: dict[str, Any], module: torch.nn.Module = module) -> None:
                record.update(probe(module, record["epoch"]))
                log.write(record)
                display.epoch(record, epochs)

            train_stage(stage, module, train, request.recipe, generator, on_step=display.step, on_epoch=on_epoch)
            run.save_stage(stage, module)
    return run


def _build_stage(
    stage: str, train: ResidentClips, recipe: Recipe, modules: dict[str, torch.nn.Module]
) -> torch.nn.Module:
    if stage == "ser":
        return SequenceReconstructor(train.width, recipe)
    if stage == "cml":
        return ContrastiveMotionLearner(train.width, recipe)
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
