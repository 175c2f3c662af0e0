"""Evaluation of a run folder: load its encoder and data, extract features, probe them, write the result."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from crrl_fast.data.batches import resident_split
from crrl_fast.data.catalog import open_data
from crrl_fast.evaluation.features import FeatureSet
from crrl_fast.evaluation.knn import nearest_neighbour_accuracy
from crrl_fast.evaluation.linear import LinearProbe, linear_probe
from crrl_fast.files import write_json
from crrl_fast.run import RunFolder
from crrl_fast.versions import software_versions


class RunEvaluation:
    """One encoder of a run with the features of its data set.

    Args:
        run: the run folder.
        encoder: a name that ``RunFolder.load_encoder`` takes; None is the run's own choice.
        data: path of the store where it has moved; None is the path that the run recorded.
        device: where features are extracted and probed.

    Raises:
        ConfigError: the encoder has no checkpoint, the store is another, or has no labels or test part.
        DataError: the store is missing or damaged.
    """

    def __init__(self, run: RunFolder, encoder: str | None, data: str | None, device: torch.device) -> None:
        store, path = open_data(data or run.config.data)
        run.check_data(store, path)
        self.run = run
        self.encoder = encoder or run.default_encoder()
        self.split = run.config.split or next(iter(store.info.splits), None)
        train, test = resident_split(store.processed(run.config.recipe.steps()), self.split, device)
        model = run.load_encoder(self.encoder).to(device)
        self.features = FeatureSet.extract(model, train, test, store.num_classes)

    def linear(self, probe: LinearProbe, json_file: Path | None = None) -> dict[str, Any]:
        """Run the linear probe; write and return its record."""
        result = linear_probe(self.features, probe)
        return self._record(
            "linear",
            "linear classifier on the frozen clip feature; the result is the last epoch's accuracy",
            {**asdict(probe), **asdict(result)},
            json_file,
        )

    def knn(self, json_file: Path | None = None) -> dict[str, Any]:
        """Run 1-nearest-neighbour; write and return its record."""
        return self._record(
            "knn",
            "1-nearest-neighbour by cosine on the frozen clip feature",
            {"accuracy": nearest_neighbour_accuracy(self.features)},
            json_file,
        )

    def _record(self, name: str, protocol: str, values: dict[str, Any], json_file: Path | None) -> dict[str, Any]:
        record = {
            "evaluation": name,
            "protocol": protocol,
            "run": str(self.run.path),
            "encoder": self.encoder,
            "dataset": self.run.config.dataset,
            "split": self.split,
            "train_clips": len(self.features.train),
            "test_clips": len(self.features.test),
            **values,
            "versions": software_versions(),
        }
        path = json_file or self.run.path / "eval" / f"{name}-{self.encoder}.json"
        write_json(path, record)
        return {**record, "file": str(path)}
