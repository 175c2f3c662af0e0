"""Pretraining and embedding from Python, as the command line does it; what is heavy is imported at the call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crrl_fast.config import Recipe
from crrl_fast.data.store import Store

if TYPE_CHECKING:
    from crrl_fast.embedding import Embedder
    from crrl_fast.run import RunFolder


def pretrain(
    data: str | Path | Store | None = None,
    *,
    split: str | None = None,
    recipe: str | Recipe | None = None,
    fusion: str | None = None,
    stages: Sequence[str] | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    device: str | None = None,
    probe_every: int | None = None,
    resume: str | Path | None = None,
    force: bool = False,
    checkpoint_every: int | None = None,
    checkpoint_minutes: float | None = None,
    keep: int | None = None,
    on_nonfinite: str | None = None,
    quiet: bool = False,
    **overrides: Any,  # noqa: ANN401 - a value of any recipe field
) -> RunFolder:
    """Pretrain an encoder without labels; the same run as ``crrl-fast pretrain`` with the same arguments.

    What is None is that of the run that ``resume`` names, or else its default.

    Args:
        data: data set name, path of a store, or a store. A store is saved into the run folder, as
            ``data/store.safetensors``, so that the run can be evaluated later; a large one that lies on disk is better
            named by its path, which copies nothing.
        split: split to train on; by default the store's first, or all clips where it defines none.
        recipe: ``paper`` (the default), ``fast``, or a recipe.
        fusion: ``distill``, ``joint`` or ``concat``; by default the recipe's.
        stages: to train instead of those of a fusion: of ``ser``, ``cml``, ``inf`` and ``joint``, in order.
        out: the run folder, new or empty; by default a new ``runs/DATA-RECIPE-TIME``.
        seed: of weights, dropout and shuffling; by default 0.
        device: ``auto`` (CUDA where there is one; the default), ``cpu`` or ``cuda``.
        probe_every: epochs between nearest-neighbour scores; 0 takes none; by default 10.
        resume: a run folder to go on with; it ends with the same bits as if it had never been interrupted. ``auto``
            for that of ``out``, or, without ``out``, the newest in ``runs`` that was started in the same way; where
            there is none, a new run is made.
        force: go on even where data, recipe, stages, split or seed differ from those the run was started with.
        checkpoint_every: epochs of a stage between two checkpoints; 0 for none; by default 5.
        checkpoint_minutes: between two, also within an epoch; 0 for none; by default 10.
        keep: of the newest checkpoints that are kept; by default 3.
        on_nonfinite: ``stop`` (the default) at a step whose loss or gradient is not finite, or ``skip`` up to 10 an
            epoch.
        quiet: print nothing. The log is written all the same.
        **overrides: fields of the recipe: ``epochs=20``, ``lr=0.1``, ...

    Returns:
        The run folder: ``RunEvaluation.open(run)`` of ``crrl_fast.evaluation`` evaluates it, ``load(run)`` embeds.

    Raises:
        ConfigError: an argument is unknown or out of range, the split or the run folder is not usable, or the run to
            go on with was started otherwise.
        DataError: the store is missing, damaged or being written, or has values that are not finite.
        CheckpointError: the run to go on with has checkpoints, but none is usable.
        TrainingError: a loss is no longer finite, or (DeviceMemoryError) memory is lacking.
        KeyboardInterrupt: SIGINT or SIGTERM came; the run is saved as it was after the step under way.
    """
    from rich.console import Console

    from crrl_fast.training.pretrain import pretrain as run_pretraining
    from crrl_fast.training.request import PretrainRequest

    request = PretrainRequest.resolve(
        data,
        split=split,
        recipe=recipe,
        overrides=overrides,
        fusion=fusion,
        stages=stages,
        out=out,
        seed=seed,
        device=device,
        probe_every=probe_every,
        resume=resume,
        force=force,
        checkpoint_every=checkpoint_every,
        checkpoint_minutes=checkpoint_minutes,
        keep=keep,
        on_nonfinite=on_nonfinite,
    )
    return run_pretraining(request, Console(quiet=quiet))


def load(run: str | Path | RunFolder, encoder: str | None = None, device: str = "auto") -> Embedder:
    """Load an encoder of a run: ``load(run).encode(arrays)`` are the features of one's own clips.

    Args:
        run: what ``pretrain`` returned, or the path of a run folder.
        encoder: a finished stage (``ser``, ``cml``, ``inf``, ``joint``), ``concat`` for those of ``ser`` and ``cml``
            side by side, or ``random`` for an untrained one, whose features are not whitened; None is that of the run's
            fusion.
        device: where clips are encoded: ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``.

    Raises:
        ConfigError: there is no such run, encoder or device.
    """
    from crrl_fast.device import resolve_device
    from crrl_fast.embedding import Embedder
    from crrl_fast.run import RunFolder

    folder = run if isinstance(run, RunFolder) else RunFolder.open(Path(run))
    return Embedder.of_run(folder, encoder, resolve_device(device))
