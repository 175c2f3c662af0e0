"""`pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crrl_fast.cli.common import INTERRUPTED, DeviceOption, console, fail, names_in, print_line


def pretrain(
    data: Annotated[str, typer.Option(help="A data set name (demo, ucla, ...) or the path of a store.")],
    split: Annotated[str | None, typer.Option(help="A split of the store; default: its first.")] = None,
    recipe: Annotated[str, typer.Option(help="paper or fast.")] = "paper",
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
    seed: Annotated[int, typer.Option(help="Of weights, dropout and shuffling.")] = 0,
    device: DeviceOption = "auto",
    probe_every: Annotated[int, typer.Option(help="Epochs between nearest-neighbour scores; 0: none.")] = 10,
) -> None:
    """Pretrain an encoder without labels."""
    from crrl_fast.config import load_toml, parse_assignments
    from crrl_fast.training.pretrain import pretrain as run_pretraining
    from crrl_fast.training.request import PretrainRequest

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
    )
    try:
        run = run_pretraining(request, console)
    except KeyboardInterrupt:
        fail(f"interrupted: {request.out} keeps its log and the stages that finished", INTERRUPTED)
    print_line(f"done: {run.path}; evaluate it with `crrl-fast eval linear {run.path}`")
