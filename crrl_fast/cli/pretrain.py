"""`pretrain`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from crrl_fast.cli.common import INTERRUPTED, DeviceOption, console, fail, names_in, print_line


def pretrain(
    data: Annotated[str, typer.Option(help="A data set name (demo, ucla, ...) or the path of a store.")],
    split: Annotated[str | None, typer.Option(help="A split of the store; default: its first.")] = None,
    recipe: Annotated[str, typer.Option(help="paper or fast.")] = "paper",
    stages: Annotated[str, typer.Option(help="Stages in order: ser, cml, inf.")] = "cml,inf",
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
    from crrl_fast.device import resolve_device
    from crrl_fast.recipes import get_recipe
    from crrl_fast.training.pretrain import PretrainRequest
    from crrl_fast.training.pretrain import pretrain as run_pretraining

    overrides = {**(load_toml(config) if config else {}), **parse_assignments(assignments or [])}
    name = f"{Path(data).stem}-{recipe}-{datetime.now():%Y%m%d-%H%M%S}"
    request = PretrainRequest(
        data=data,
        split=split,
        recipe_name=recipe,
        recipe=get_recipe(recipe).with_overrides(overrides),
        stages=names_in(stages),
        out=out or Path("runs") / name,
        seed=seed,
        device=resolve_device(device),
        probe_every=probe_every,
    )
    try:
        run = run_pretraining(request, console)
    except KeyboardInterrupt:
        fail(f"interrupted: {request.out} keeps its log and the stages that finished", INTERRUPTED)
    print_line(f"done: {run.path}; evaluate it with `crrl-fast eval linear {run.path}`")
