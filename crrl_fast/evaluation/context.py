"""What is evaluated: an encoder of a run, and the labelled clips of a split that it is evaluated on."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch

from crrl_fast.data.batches import ResidentClips, resident_frames
from crrl_fast.data.catalog import load_data
from crrl_fast.data.store import Store
from crrl_fast.display import Counting, uncounted
from crrl_fast.errors import ConfigError
from crrl_fast.evaluation.features import FeatureSet, load_encoder
from crrl_fast.models import ClipEncoder
from crrl_fast.run import RunFolder


class LabelledSplit:
    """The labelled clips of a split; clips without a label are left out.

    Args:
        store: the clips, preprocessed as the encoder takes them.
        split: name of the split; None is the store's first.
        where: what error messages call the store, its path for instance.
        device: where the clips are put when they are asked for.

    Raises:
        ConfigError: there is no label, no such split, no test part, a part without labels, or a class that has test
            clips but no training clip.
    """

    def __init__(self, store: Store, split: str | None, where: str | Path, device: torch.device) -> None:
        if not bool((store.labels >= 0).any()):
            raise ConfigError(
                f"{where}: no clip has a label, and evaluation needs labels: prepare it with --labels FILE.csv"
            )
        if split is None and not store.info.splits:
            raise ConfigError(f"{where}: the store defines no split, so there is no test part to evaluate on")
        self.store = store
        self.split = split if split is not None else next(iter(store.info.splits))
        self.device = device
        train, test = store.split(self.split)
        if not len(test):
            raise ConfigError(f"{where}: split {self.split!r} puts no clip into its test part")
        self._train, self._test = train[store.labels[train] >= 0], test[store.labels[test] >= 0]
        for part, index in (("training", self._train), ("test", self._test)):
            if not len(index):
                raise ConfigError(
                    f"{where}: the {part} part of split {self.split!r} has no labelled clip, and evaluation needs some"
                )
        self._refuse_untrained_classes(where)

    def _refuse_untrained_classes(self, where: str | Path) -> None:
        trained, tested = (
            torch.bincount(self.store.labels[index], minlength=self.store.num_classes)
            for index in (self._train, self._test)
        )
        untrained = ((tested > 0) & (trained == 0)).nonzero().flatten().tolist()
        if untrained:
            clips = int(tested[untrained[0]])
            others = f" (and so {len(untrained) - 1} more)" if len(untrained) > 1 else ""
            raise ConfigError(
                f"{where}: class {self.class_names[untrained[0]]!r} has {clips} test "
                f"{'clip' if clips == 1 else 'clips'} but no training clip in split {self.split!r}{others}: "
                "evaluate on another split, or prepare the store without it"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, in label order."""
        return self.store.info.class_names

    @property
    def num_classes(self) -> int:
        """Classes K of the data set."""
        return self.store.num_classes

    @cached_property
    def train(self) -> ResidentClips:
        """The labelled training clips on the device."""
        return ResidentClips(self.store, self._train, self._frames)

    @cached_property
    def test(self) -> ResidentClips:
        """The labelled test clips on the device."""
        return ResidentClips(self.store, self._test, self._frames)

    @cached_property
    def _frames(self) -> torch.Tensor:
        return resident_frames(self.store, self.device)


class RunEvaluation:
    """One encoder of a run, and the clips it is evaluated on.

    Args:
        run: the run folder.
        encoder: a finished stage, ``concat`` or ``random``; None is the run's own choice.
        clips: what to evaluate on; ``open`` takes the run's own data set.
        counting: shows how far a long job is.

    Attributes:
        run: the run folder.
        encoder: name of the encoder.
        clips: what it is evaluated on.
        counting: see above.

    Raises:
        ConfigError: no encoder is named and the run has none.
    """

    def __init__(
        self, run: RunFolder, encoder: str | None, clips: LabelledSplit, counting: Counting = uncounted
    ) -> None:
        self.run = run
        self.encoder = encoder or run.default_encoder()
        self.clips = clips
        self.counting = counting

    @classmethod
    def open(
        cls,
        run: RunFolder,
        encoder: str | None = None,
        *,
        data: str | None = None,
        split: str | None = None,
        device: torch.device | None = None,
        counting: Counting = uncounted,
    ) -> RunEvaluation:
        """Evaluate an encoder on the data set that its run was trained on.

        Args:
            run: the run folder.
            encoder: a finished stage, ``concat`` or ``random``; None is the run's own choice.
            data: path of the store where it has moved; None is the path that the run recorded.
            split: None is the split that the run was trained on.
            device: where features are extracted and probed; None is the CPU.
            counting: shows how far a long job is.

        Raises:
            ConfigError: the encoder has no checkpoint, the store is another, or cannot be evaluated on (see
                ``LabelledSplit``).
            DataError: the store is missing or damaged.
        """
        run.load_encoder(encoder or run.default_encoder())  # what is missing or damaged shows before data is read
        store, path, _ = load_data(data or run.config.data)
        run.check_data(store, path)
        clips = store.processed(run.config.recipe.preprocessing())
        device = device or torch.device("cpu")
        return cls(run, encoder, LabelledSplit(clips, split or run.config.split, path, device), counting)

    @property
    def stream(self) -> str:
        """What the run's clips were turned into: ``joint``, ``motion`` or ``bone``."""
        return self.run.config.recipe.stream

    @property
    def device(self) -> torch.device:
        """Where the clips are, and encoders go."""
        return self.clips.device

    def load_encoder(self) -> ClipEncoder:
        """Return the encoder as pretraining left it, on the device; every call returns a copy of its own.

        A random one is whitened by the labelled training clips of the data set that it is evaluated on, in a transfer
        those of the target, for it has seen no other.
        """
        return load_encoder(self.run, self.encoder, self.clips.train)

    @cached_property
    def features(self) -> FeatureSet:
        """The features of both parts by the frozen encoder; extracted at the first use."""
        return FeatureSet.extract(self.load_encoder(), self.clips.train, self.clips.test, self.clips.num_classes)
