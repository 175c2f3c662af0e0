"""`eval`: the protocols, one command each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crrl_fast.cli.common import (
    DataOption,
    DeviceOption,
    EncoderOption,
    console,
    numbers_in,
    print_line,
    print_wide,
    whole_numbers_in,
)

if TYPE_CHECKING:
    from crrl_fast.evaluation import Protocol, RunEvaluation

eval_app = typer.Typer(help="Evaluate the encoder of a run, or those of several fused late.", no_args_is_help=True)

RunsArgument = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", help="Run folders that `crrl-fast pretrain` wrote; several are fused late."),
]
WeightsOption = Annotated[
    str | None, typer.Option(help="Of each run in the fusion, for instance 0.6,0.6,0.4; default: all alike.")
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
    run_protocol(probe, runs, encoder, weights, split, data, device, json_file)


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
    """Vote of the nearest training clips by cosine of the frozen feature."""
    from crrl_fast.evaluation import NearestNeighbours

    run_protocol(NearestNeighbours(k), runs, encoder, weights, split, data, device, json_file)


@eval_app.command()
def retrieval(
    runs: RunsArgument,
    encoder: EncoderOption = None,
    weights: WeightsOption = None,
    split: SplitOption = None,
    gallery: Annotated[str, typer.Option(help="train, or test: every other test clip.")] = "train",
    recall_at: Annotated[str, typer.Option(help="Numbers of nearest clips to take recall at.")] = "1,5,10",
    data: DataOption = None,
    device: DeviceOption = "auto",
    json_file: JsonOption = None,
) -> None:
    """Rank clips by cosine of the frozen feature: mAP and recall@k."""
    from crrl_fast.evaluation import Retrieval

    protocol = Retrieval(gallery, whole_numbers_in(recall_at, "--recall-at"))
    run_protocol(protocol, runs, encoder, weights, split, data, device, json_file)


def run_protocol(
    protocol: Protocol,
    runs: list[Path],
    encoder: str | None,
    weights: str | None,
    split: str | None,
    data: str | None,
    device: str,
    json_file: Path | None,
) -> None:
    """Run ``protocol`` as the options of its command say, print the record and where it was written."""
    shares, evaluations = open_runs(runs, encoder, weights, split, data, device)
    print_evaluation(evaluations, protocol, shares, json_file)


def print_evaluation(
    evaluations: Sequence[RunEvaluation], protocol: Protocol, shares: tuple[float, ...], json_file: Path | None
) -> None:
    """Run ``protocol``, print the record and where it was written."""
    from crrl_fast.evaluation import evaluate
    from crrl_fast.evaluation_table import render

    record = evaluate(evaluations, protocol, weights=shares, json_file=json_file)
    print_wide(render(record))
    print_line(f"written to {record['file']}")


def shares_of(weights: str | None, runs: list[Path]) -> tuple[float, ...]:
    """Return the weight of each run in the fusion.

    Raises:
        ConfigError: the weights are unusable.
    """
    from crrl_fast.evaluation.protocol import fusion_weights

    return fusion_weights(None if weights is None else numbers_in(weights, "--weights"), len(runs))


def open_runs(
    runs: list[Path], encoder: str | None, weights: str | None, split: str | None, data: str | None, device: str
) -> tuple[tuple[float, ...], list[RunEvaluation]]:
    """Return the weight of each run in the fusion, and the runs, opened as the options say."""
    from crrl_fast.device import resolve_device
    from crrl_fast.display import counting
    from crrl_fast.evaluation import RunEvaluation
    from crrl_fast.run import RunFolder

    shares = shares_of(weights, runs)
    where, shown = resolve_device(device), partial(counting, console)
    return shares, [
        RunEvaluation.open(folder, encoder, data=data, split=split, device=where, counting=shown)
        for folder in map(RunFolder.open, runs)
    ]
