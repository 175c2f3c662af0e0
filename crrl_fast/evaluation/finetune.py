"""Fine-tuning: encoder and classifier trained together on the labelled training clips."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from crrl_fast.display import adding
from crrl_fast.evaluation.context import RunEvaluation
from crrl_fast.evaluation.protocol import Finding, Protocol
from crrl_fast.evaluation.tuning import Tuning, fine_tune


@dataclass(frozen=True)
class FineTune(Protocol):
    """The encoder, from where pretraining left it, and a linear classifier trained together.

    Attributes:
        tuning: settings of the training.
    """

    name: ClassVar[str] = "finetune"

    tuning: Tuning = field(default_factory=Tuning)

    @property
    def sentence(self) -> str:
        """What it does, in words."""
        return (
            f"encoder and linear classifier trained on the labelled training clips for {self.tuning.epochs} epochs, "
            f"{self.tuning.in_words()}; the last epoch, not the best, is the result"
        )

    def settings(self) -> dict[str, Any]:
        """Return the settings in JSON form, as the record states them."""
        return asdict(self.tuning)

    def run(self, evaluation: RunEvaluation) -> Finding:
        """Fine-tune one encoder.

        Raises:
            TrainingError: a loss is no longer finite.
        """
        clips, tuning = evaluation.clips, self.tuning
        with evaluation.counting(f"{self.name} {evaluation.encoder}", tuning.epochs * len(clips.train)) as progress:
            tuned = fine_tune(
                evaluation.load_encoder(), clips.train, clips.test, clips.num_classes, tuning, on_step=adding(progress)
            )
        return Finding(tuned.outcome, {"curve": list(tuned.curve), "loss_curve": list(tuned.losses)})
