"""`eval finetune`, `eval semi` and `eval transfer`: the protocols that train the encoder with labels."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from crrl_fast.cli.common import (
    DataOption,
    DeviceOption,
    EncoderOption,
    console,
    numbers_in,
    whole_numbers_in,
)
from crrl_fast.cli.evaluate import (
    JsonOption,
    RunsArgument,
    SplitOption,
    WeightsOption,
    print_evaluation,
    run_protocol,
    shares_of,
)
from crrl_fast.errors import ConfigError

if TYPE_CHECKING:
    from crrl_fast.evaluation import RunEvaluation, Tuning

Command = TypeVar("Command", bound=Callable[..., None])

# Of settings of ``Tuning``, which applies the defaults that are shown.
TUNING_OPTIONS: dict[str, Any] = {
    "epochs": Annotated[int | None, typer.Option(help="Passes over the training clips.", show_default="30")],
    "batch_size": Annotated[int | None, typer.Option(help="Clips a step.", show_default="32")],
    "lr": Annotated[float | None, typer.Option(help="Learning rate of the classifier.", show_default="0.1")],
    "encoder_lr": Annotated[
        float | None, typer.Option(help="Learning rate of the encoder; 0 freezes it.", show_default="0.3")
    ],
    "schedule": Annotated[
        str | None,
        typer.Option(help="cosine: both rates fall to 0; step: they fall by --decay.", show_default="cosine"),
    ],
    "milestones": Annotated[
        str | None,
        typer.Option(help="Epochs after which they do.", show_default="after half and three quarters of the epochs"),
    ],
    "decay": Annotated[float | None, typer.Option(help="The factor by which they do.", show_default="0.1")],
    "warmup": Annotated[int | None, typer.Option(help="Epochs in which both rates rise.", show_default="0")],
    "momentum": Annotated[float | None, typer.Option(help="Of SGD.", show_default="0.9")],
    "weight_decay": Annotated[float | None, typer.Option(help="L2 penalty.", show_default="0.0001")],
    "clip_grad_norm": Annotated[
        float | None, typer.Option(help="Largest norm of the gradient; 0: any.", show_default="5")
    ],
    "precision": Annotated[str | None, typer.Option(help="fp32 or bf16.", show_default="fp32")],
    "length_buckets": Annotated[
        int | None, typer.Option(help="Batches whose clips are cut anew by length; 0: none.", show_default="0")
    ],
}

ToSplitOption = Annotated[str | None, typer.Option(help="A split of that data set; default: its first.")]
MapJointsOption = Annotated[
    bool,
    typer.Option("--map-joints", help="Map another joint layout through common joints; leave out further bodies."),
]
SeedOption = Annotated[int, typer.Option(help="Of the classifier's weights, dropout, shuffling and draws.")]


def with_tuning_options(command: Command) -> Command:
    """Show Typer, for a command's ``**settings``, each of ``TUNING_OPTIONS``, in front of its option ``seed``."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not Parameter.VAR_KEYWORD]
    options = [
        Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=option)
        for name, option in TUNING_OPTIONS.items()
    ]
    place = [parameter.name for parameter in own].index("seed")
    command.__signature__ = signature.replace(parameters=[*own[:place], *options, *own[place:]])  # type: ignore[attr-defined]
    return command


@with_tuning_options
def finetune(
    runs: RunsArgument,
    encoder: EncoderOption = None,
    weights: WeightsOption = None,
    split: SplitOption = None,
    seed: SeedOption = 0,
    data: DataOption = None,
    device: DeviceOption = "auto",
    json_file: JsonOption = None,
    **settings: Any,  # noqa: ANN401 - None, or of the setting's type
) -> None:
    """Train encoder and classifier with all labels; the last epoch's accuracy is the result."""
    from crrl_fast.evaluation import FineTune

    run_protocol(FineTune(_tuning(seed, settings)), runs, encoder, weights, split, data, device, json_file)


@with_tuning_options
def semi(
    runs: RunsArgument,
    encoder: EncoderOption = None,
    weights: WeightsOption = None,
    split: SplitOption = None,
    percent: Annotated[str, typer.Option(help="Of the training clips of each class, at least one.")] = "1,5,10,20",
    draws: Annotated[int, typer.Option(help="Random parts of each size.")] = 5,
    min_steps: Annotated[int, typer.Option(help="Small parts get more epochs, until there are so many steps.")] = 100,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="Linear probe on the frozen feature instead of fine-tuning.")
    ] = False,
    seed: SeedOption = 0,
    data: DataOption = None,
    device: DeviceOption = "auto",
    json_file: JsonOption = None,
    **settings: Any,  # noqa: ANN401
) -> None:
    """Train with labels for a few percent of the clips, drawn several times; mean and spread of the last epoch."""
    from crrl_fast.evaluation import LinearProbe, SemiSupervised

    if frozen:
        given = [f"--{name.replace('_', '-')}" for name, value in settings.items() if value is not None]
        if given:
            raise ConfigError(f"--frozen trains as `eval linear` does by default, so {', '.join(given)} has no effect")
    trainer = LinearProbe(seed=seed) if frozen else _tuning(seed, settings)
    protocol = SemiSupervised(trainer, numbers_in(percent, "--percent"), draws, min_steps)
    run_protocol(protocol, runs, encoder, weights, split, data, device, json_file)


@with_tuning_options
def transfer(
    runs: RunsArgument,
    to: Annotated[str, typer.Option(help="The data set to fine-tune on: a name or the path of a store.")],
    encoder: EncoderOption = None,
    weights: WeightsOption = None,
    to_split: ToSplitOption = None,
    map_joints: MapJointsOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    json_file: JsonOption = None,
    **settings: Any,  # noqa: ANN401
) -> None:
    """Fine-tune on another data set than the run was pretrained on."""
    from crrl_fast.evaluation import Transfer

    shares = shares_of(weights, runs)
    targets = open_targets(runs, encoder, to, to_split, map_joints, device)
    print_evaluation(targets, Transfer(_tuning(seed, settings)), shares, json_file)


def open_targets(
    runs: list[Path], encoder: str | None, to: str, to_split: str | None, map_joints: bool, device: str
) -> list[RunEvaluation]:
    """Return the runs, each with the data set that it is transferred to, opened as the options say."""
    from crrl_fast.device import resolve_device
    from crrl_fast.display import counting
    from crrl_fast.evaluation import TransferEvaluation
    from crrl_fast.run import RunFolder

    where, shown = resolve_device(device), partial(counting, console)
    return [
        TransferEvaluation.onto(
            folder, encoder, to, split=to_split, map_joints=map_joints, device=where, counting=shown
        )
        for folder in map(RunFolder.open, runs)
    ]


def _tuning(seed: int, settings: Mapping[str, Any]) -> Tuning:
    from crrl_fast.evaluation import Tuning

    given = {name: value for name, value in settings.items() if value is not None}
    if "milestones" in given:
        given["milestones"] = whole_numbers_in(given["milestones"], "--milestones")
    return Tuning(**given, seed=seed)
