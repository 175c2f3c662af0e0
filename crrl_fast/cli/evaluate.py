"""`eval`: the protocols, one command each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from crrl_fast.cli.common import DataOption, DeviceOption, EncoderOption, RunArgument, console, print_line

eval_app = typer.Typer(help="Evaluate the frozen encoder of a run.", no_args_is_help=True)

JsonOption = Annotated[Path | None, typer.Option("--json", help="Where to write the result; default: RUN/eval/.")]


@eval_app.command()
def linear(
    run: RunArgument,
    encoder: EncoderOption = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training features.")] = 300,
    lr: Annotated[float, typer.Option(help="Initial learning rate.")] = 1.0,
    batch_size: Annotated[int, typer.Option(help="Features a step.")] = 128,
    seed: Annotated[int, typer.Option(help="Of the classifier's weights and the shuffling.")] = 0,
    data: DataOption = None,
    device: DeviceOption = "auto",
    json_file: JsonOption = None,
) -> None:
    """Linear probe: the last epoch's accuracy is the result."""
    from crrl_fast.device import resolve_device
    from crrl_fast.evaluation.linear import LinearProbe
    from crrl_fast.evaluation.protocol import RunEvaluation
    from crrl_fast.run import RunFolder

    probe = LinearProbe(epochs=epochs, lr=lr, batch_size=batch_size, seed=seed)
    record = RunEvaluation(RunFolder.open(run), encoder, data, resolve_device(device)).linear(probe, json_file)
    _print_result(
        record,
        ("linear accuracy", f"{record['accuracy']:.1f} %"),
        ("best epoch, on test", f"{record['best_accuracy']:.1f} %"),
    )


@eval_app.command()
def knn(
    run: RunArgument,
    encoder: EncoderOption = None,
    data: DataOption = None,
    device: DeviceOption = "auto",
    json_file: JsonOption = None,
) -> None:
    """1-nearest-neighbour by cosine."""
    from crrl_fast.device import resolve_device
    from crrl_fast.evaluation.protocol import RunEvaluation
    from crrl_fast.run import RunFolder

    record = RunEvaluation(RunFolder.open(run), encoder, data, resolve_device(device)).knn(json_file)
    _print_result(record, ("1-NN accuracy", f"{record['accuracy']:.1f} %"))


def _print_result(record: dict[str, object], *rows: tuple[str, str]) -> None:
    table = Table(show_header=False)
    table.add_row("data set", f"{record['dataset']}, split {record['split']}")
    table.add_row("clips", f"{record['train_clips']} training, {record['test_clips']} test")
    table.add_row("encoder", f"{record['encoder']} of {record['run']}")
    for name, value in rows:
        table.add_row(name, value)
    table.add_row("protocol", str(record["protocol"]))
    console.print(table)
    print_line(f"written to {record['file']}")
