"""`eval all`: every protocol, and one table at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crrl_fast.cli.common import DataOption, DeviceOption, EncoderOption, print_line, print_wide
from crrl_fast.cli.evaluate import RunsArgument, SplitOption, WeightsOption, open_runs
from crrl_fast.cli.finetune import MapJointsOption, ToSplitOption, open_targets
from crrl_fast.errors import ConfigError

if TYPE_CHECKING:
    from crrl_fast.evaluation import Protocol, RunEvaluation


def evaluate_all(
    runs: RunsArgument,
    encoder: EncoderOption = None,
    weights: WeightsOption = None,
    split: SplitOption = None,
    to: Annotated[
        str | None, typer.Option(help="Transfer to this data set, too: a name or the path of a store.")
    ] = None,
    to_split: ToSplitOption = None,
    map_joints: MapJointsOption = False,
    seed: Annotated[int, typer.Option(help="Of whatever is trained or drawn.")] = 0,
    data: DataOption = None,
    device: DeviceOption = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="A file for all results, beside those in RUN/eval/.")
    ] = None,
) -> None:
    """Run every protocol with its default settings; transfer where --to names a data set."""
    from crrl_fast.evaluation import Transfer, Tuning, all_protocols, evaluate
    from crrl_fast.evaluation_table import summary
    from crrl_fast.files import write_json

    if to is None and (map_joints or to_split is not None):
        raise ConfigError("--map-joints and --to-split are for transfer: name its data set with --to")
    shares, evaluations = open_runs(runs, encoder, weights, split, data, device)
    jobs: list[tuple[Protocol, list[RunEvaluation]]] = [(protocol, evaluations) for protocol in all_protocols(seed)]
    if to is not None:
        targets = open_targets(runs, encoder, to, to_split, map_joints, device)
        jobs.append((Transfer(Tuning(seed=seed)), targets))
    records = []
    for protocol, subjects in jobs:
        record = evaluate(subjects, protocol, weights=shares)
        print_line(f"{record['evaluation']}: {record['accuracy']:.1f} %, written to {record['file']}")
        records.append(record)
    print_wide(summary(records))
    if json_file:
        write_json(json_file, {"evaluations": records})
        print_line(f"written to {json_file}")
