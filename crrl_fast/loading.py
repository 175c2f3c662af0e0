"""A run's encoder for one's own clips; what is heavy is imported at the call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crrl_fast.embedding import Embedder


def load(run: str | Path, encoder: str | None = None, device: str = "auto") -> Embedder:
    """Load an encoder of a run: ``load(run).encode(arrays)`` are the features of one's own clips.

    Args:
        run: a run folder that pretraining wrote.
        encoder: a finished stage (``ser``, ``cml``, ``inf``, ...), ``concat`` for those of ``ser`` and ``cml`` side by
            side, or ``random`` for an untrained one; None is that of the run's fusion.
        device: where clips are encoded: ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``.

    Raises:
        ConfigError: there is no such run, encoder or device.
    """
    from crrl_fast.device import resolve_device
    from crrl_fast.embedding import Embedder
    from crrl_fast.run import RunFolder

    return Embedder.of_run(RunFolder.open(Path(run)), encoder, resolve_device(device))
