"""When a run is saved, and how many of its checkpoints are kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crrl_fast.errors import ConfigError
from crrl_fast.training.checkpoint import Checkpoint, checkpoints_in, number_of, remove_checkpoint, write_checkpoint


@dataclass(frozen=True)
class CheckpointPolicy:
    """When checkpoints are written, besides the end of each stage and an interruption.

    Attributes:
        every: epochs of a stage between two; 0 for none.
        minutes: between two, also within an epoch; 0 for none.
        keep: of the newest that are kept.
    """

    every: int = 5
    minutes: float = 10.0
    keep: int = 3

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: one is out of range.
        """
        if self.every < 0:
            raise ConfigError(f"checkpoint_every must be at least 0 epochs, got {self.every}")
        if not (math.isfinite(self.minutes) and self.minutes >= 0):
            raise ConfigError(f"checkpoint_minutes must be at least 0, got {self.minutes}")
        if self.keep < 1:
            raise ConfigError(f"keep must be at least 1 checkpoint, got {self.keep}")


class CheckpointKeeper:
    """Writes a run's checkpoints and removes old ones.

    Args:
        run: the run folder.
        policy: when, and how many.
        clock: seconds.
    """

    def __init__(self, run: Path, policy: CheckpointPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._policy = policy
        self._clock = clock
        self._saved = clock()

    def is_due_after_step(self) -> bool:
        """Return whether enough time has passed; the device is not asked."""
        minutes = self._policy.minutes
        return minutes > 0 and self._clock() - self._saved >= 60 * minutes

    def is_due_after_epoch(self, epoch: int, epochs: int) -> bool:
        """Return whether a checkpoint is due after ``epoch``, from 1, of a stage of ``epochs``."""
        every = self._policy.every
        return epoch == epochs or (every > 0 and epoch % every == 0) or self.is_due_after_step()

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, then remove those beyond the newest that are kept; return its path.

        Raises:
            CrrlError: it cannot be written; the others are as they were.
        """
        earlier = checkpoints_in(self._run)
        path = write_checkpoint(self._run, number_of(earlier[-1]) + 1 if earlier else 1, checkpoint)
        keep = self._policy.keep
        for old in [*earlier, path][:-keep]:
            remove_checkpoint(old)
        self._saved = self._clock()
        return path
