"""`pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crrl_fast.cli.common import INTERRUPTED, console, fail, names_in, print_line


def pretrain(
    data: Annotated[str | None, typer.Option(help="A data set name (demo, ucla, ...) or the path of a store.")] = None,
    split: Annotated[str | None, typer.Option(help="A split of the store; default: its first.")] = None,
    recipe: Annotated[str | None, typer.Option(help="paper (the default) or fast.")] = None,
    fusion: Annotated[
        str | None,
        typer.Option(help="How reconstruction and contrast become one: distill (default), joint or concat."),
    ] = None,
    stages: Annotated[
        str | None, typer.Option(help="Instead of a fusion, its stages in order: ser, cml, inf, joint.")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Override a recipe field: field=value; may be repeated.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of recipe fields; --set wins over it.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; default: runs/DATA-RECIPE-TIME.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, dropout and shuffling; default: 0.")] = None,
    device: Annotated[str | None, typer.Option(help="auto (the default), cpu or cuda.")] = None,
    probe_every: Annotated[
        int | None, typer.Option(help="Epochs between nearest-neighbour scores; 0: none; default: 10.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            help="A run folder to go on with, with its own options where none are given; auto: that of --out, or the "
            "newest in runs/ that was started in the same way, or a new one."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Go on with a run that was started otherwise.")] = False,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Epochs of a stage between checkpoints; 0: none; default: 5.")
    ] = None,
    checkpoint_minutes: Annotated[
        float | None, typer.Option(help="Minutes between checkpoints; 0: none; default: 10.")
    ] = None,
    keep: Annotated[int | None, typer.Option(help="Of the newest checkpoints that are kept; default: 3.")] = None,
    on_nonfinite: Annotated[
        str | None,
        typer.Option(
            help="At a step whose loss or gradient is not finite: stop (the default), or skip up to 10 an epoch."
        ),
    ] = None,
) -> None:
    """Pretrain an encoder without labels."""
    from crrl_fast.config import load_toml, parse_assignments
    from crrl_fast.training.pretrain import pretrain as run_pretraining
    from crrl_fast.training.request import PretrainRequest
    from crrl_fast.training.stopping import Interruption

    request = PretrainRequest.resolve(
        data,
        split=split,
        recipe=recipe,
        overrides={**(load_toml(config) if config else {}), **parse_assignments(assignments or [])},
        fusion=fusion,
        stages=None if stages is None else names_in(stages),
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
    try:
        run = run_pretraining(request, console)
    except Interruption as stopped:
        fail(str(stopped), stopped.exit_code)
    except KeyboardInterrupt:
        fail(f"interrupted: {request.out} keeps its log, its checkpoints and the stages that finished", INTERRUPTED)
    print_line(f"done: {run.path}; evaluate it with `crrl-fast eval linear {run.path}`")
