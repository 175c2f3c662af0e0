"""`eval`: the protocols, one command each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from crrl_fast.cli.common import DataOption, DeviceOption, EncoderOption, console, numbers_in, print_line

if TYPE_CHECKING:
    from crrl_fast.evaluation import Protocol

eval_app = typer.Typer(help="Evaluate the encoder of a run, or those of several fused late.", no_args_is_help=True)

RunsArgument = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", help="Run folders that `crrl-fast pretrain` wrote; several are fused late."),
]
WeightsOption = Annotated[
    str | None, typer.Option(help="Of each run in the fusion: 0.6,0.6,0.4 for instance; default: all alike.")
]
SplitOption = Annotated[str | None, typer.Option(help="A split of the store; default: the one trained on.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Where to write the result; default: RUN/eval/.")]


@eval_app.command()
def linear(
    runs: RunsArgument,
    encoder: EncoderOption = None,
    weights: WeightsOption = None,
    split: SplitOption = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training features.")] = 300,
    lr: Annotated[float, typer.Option(help="Initial learning rate; it falls to 0 along a cosine.")] = 1.0,
    batch_size: Annotated[int, typer.Option(help="Features a step.")] = 128,
    weight_decay: Annotated[float, typer.Option(help="L2 penalty.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the classifier's weights and the shuffling.")] = 0,
    data: DataOption = None,
    device: DeviceOption = "auto",
    json_file: JsonOption = None,
) -> None:
    """Linear probe on the frozen feature; the last epoch's accuracy is the result."""
    from crrl_fast.evaluation import LinearProbe

    probe = LinearProbe(epochs=epochs, lr=lr, batch_size=batch_size, weight_decay=weight_decay, seed=seed)
    record = run_protocol(probe, runs, encoder, weights, split, data, device, json_file)
    best = [("best epoch, on test", f"{record['best_accuracy']:.1f} %")] if "best_accuracy" in record else []
    print_record(record, ("linear accuracy", f"{record['accuracy']:.1f} %"), *best)


@eval_app.command()
def knn(
    runs: RunsArgument,
    encoder: EncoderOption = None,
    weights: WeightsOption = None,
    split: SplitOption = None,
    k: Annotated[int, typer.Option(help="Training clips that vote.")] = 1,
    data: DataOption = None,
    device: DeviceOption = "auto",
    json_file: JsonOption = None,
) -> None:
    """Nearest training clips by cosine of the frozen feature."""
    from crrl_fast.evaluation import NearestNeighbours

    record = run_protocol(NearestNeighbours(k), runs, encoder, weights, split, data, device, json_file)
    print_record(record, (f"{k}-NN accuracy", f"{record['accuracy']:.1f} %"))


def run_protocol(
    protocol: Protocol,
    runs: list[Path],
    encoder: str | None,
    weights: str | None,
    split: str | None,
    data: str | None,
    device: str,
    json_file: Path | None,
) -> dict[str, Any]:
    """Run ``protocol`` as the options of a command say; return its record."""
    from crrl_fast.device import resolve_device
    from crrl_fast.evaluation import RunEvaluation, evaluate
    from crrl_fast.evaluation.protocol import fusion_weights
    from crrl_fast.run import RunFolder

    shares = fusion_weights(numbers_in(weights, "--weights") if weights is not None else None, len(runs))
    where = resolve_device(device)
    evaluations = [
        RunEvaluation.open(RunFolder.open(run), encoder, data=data, split=split, device=where) for run in runs
    ]
    return evaluate(evaluations, protocol, weights=shares, json_file=json_file)


def print_record(record: dict[str, Any], *rows: tuple[str, str]) -> None:
    """Print what was evaluated on what, ``rows`` of results, the protocol, and where the record was written."""
    table = Table(show_header=False)
    table.add_row("data set", f"{record['dataset']}, split {record['split']}")
    table.add_row("clips", f"{record['train_clips']} training, {record['test_clips']} test")
    table.add_row("encoder", f"{record['encoder']} of {record['run']}")
    for stream in record.get("streams", ()):
        value = f"{stream['accuracy']:.1f} %, weight {stream['weight']:g}, {stream['encoder']} of {stream['run']}"
        table.add_row(f"stream {stream['stream']}", value)
    for name, value in rows:
        table.add_row(name, value)
    table.add_row("protocol", str(record["protocol"]))
    console.print(table)
    print_line(f"written to {record['file']}")
