"""Transfer: an encoder that was pretrained on one data set, fine-tuned on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from crrl_fast.data.catalog import load_data
from crrl_fast.data.fitting import all_steps, fit_store
from crrl_fast.data.layouts import JointMapping
from crrl_fast.data.mapping import check_format, map_store
from crrl_fast.display import Counting, uncounted
from crrl_fast.evaluation.context import LabelledSplit, RunEvaluation
from crrl_fast.evaluation.finetune import FineTune
from crrl_fast.evaluation.protocol import Finding
from crrl_fast.run import RunFolder


class TransferEvaluation(RunEvaluation):
    """One encoder of a run, and the clips of another data set; ``onto`` opens it.

    Attributes:
        target: what the encoder is transferred to, as the record states it.
    """

    target: dict[str, Any]

    @classmethod
    def onto(
        cls,
        run: RunFolder,
        encoder: str | None,
        to: str,
        *,
        split: str | None = None,
        map_joints: bool = False,
        device: torch.device | None = None,
        counting: Counting = uncounted,
    ) -> TransferEvaluation:
        """Prepare another data set for the encoder of a run.

        Its clips get the steps that the run's own got: all of them if they are raw, the recipe's if they were prepared
        as the run's were.

        Args:
            run: the run folder.
            encoder: a finished stage, ``concat`` or ``random``; None is the run's own choice.
            to: name of a data set or path of a store.
            split: a split of it; None is its first.
            map_joints: whether other joint layouts are mapped and bodies beyond the run's are left out.
            device: where to fine-tune; None is the CPU.
            counting: shows how far a long job is.

        Raises:
            ConfigError: the encoder has no checkpoint, or the store cannot be evaluated on (see ``LabelledSplit``), or
                has other joints or more bodies than the run and ``map_joints`` is off.
            DataError: the store is missing, damaged, was preprocessed in another way, or shares too few joints.
        """
        config = run.config
        run.load_encoder(encoder or run.default_encoder())  # what is missing or damaged shows before data is read
        store, path, _ = load_data(to)
        mapping: JointMapping | None = None
        bodies = store.info.bodies
        if not map_joints:
            check_format(store, path, config.frames)
        else:
            store, mapping = map_store(store, config.frames)
        clips = fit_store(store, config.frames, all_steps(config.frames, config.recipe.preprocessing()))
        evaluation = cls(run, encoder, LabelledSplit(clips, split, path, device or torch.device("cpu")), counting)
        evaluation.target = {
            "data": str(path),
            "dataset": store.info.dataset,
            "split": evaluation.clips.split,
            "bodies": bodies,
            "bodies_taken": min(bodies, config.frames.bodies),
            "mapped_joints": None if mapping is None else mapping.record(),
        }
        return evaluation


@dataclass(frozen=True)
class Transfer(FineTune):
    """Fine-tuning on a data set that the encoder was not pretrained on; takes a ``TransferEvaluation``."""

    name: ClassVar[str] = "transfer"

    @property
    def sentence(self) -> str:
        """What it does, in words."""
        return f"pretrained on one data set, then on another: {super().sentence}"

    def run(self, evaluation: RunEvaluation) -> Finding:
        """Fine-tune one encoder.

        Raises:
            TrainingError: a loss is no longer finite.
        """
        assert isinstance(evaluation, TransferEvaluation)
        found = super().run(evaluation)
        config = evaluation.run.config
        pretrained = {"dataset": config.dataset, "split": config.split}
        return Finding(found.outcome, {**found.details, "from": pretrained, "to": evaluation.target})

    def fuse(
        self, evaluations: Sequence[RunEvaluation], findings: Sequence[Finding], weights: Sequence[float]
    ) -> Finding:
        """Return the late fusion of several encoders."""
        found = super().fuse(evaluations, findings, weights)
        return Finding(found.outcome, {part: findings[0].details[part] for part in ("from", "to")})
