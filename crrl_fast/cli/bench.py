"""`bench`: measurements, one command each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crrl_fast.cli.common import (
    DISAGREEMENT,
    DeviceOption,
    fail,
    names_in,
    print_line,
    print_wide,
    whole_numbers_in,
)
from crrl_fast.errors import ConfigError

if TYPE_CHECKING:
    from crrl_fast.benchmark.record import BenchmarkRecord, CaseRecord
    from crrl_fast.benchmark.train import Plan

bench_app = typer.Typer(help="Measure against baselines in the same run.", no_args_is_help=True)

RoundsOption = Annotated[int, typer.Option(help="Timed rounds of each case; slow cases get fewer.", min=1)]
RecordOption = Annotated[Path | None, typer.Option("--json", help="Where to write the record.")]
TableOption = Annotated[Path | None, typer.Option("--markdown", help="Where to write the table.")]
FigureOption = Annotated[Path | None, typer.Option("--plot", help="Where to write the figure, a PNG.")]


@bench_app.command()
def ops(
    device: DeviceOption = "auto",
    only: Annotated[list[str] | None, typer.Option("--op", help="One op alone; may be repeated.")] = None,
    rounds: RoundsOption = 30,
    json_file: RecordOption = None,
    markdown_file: TableOption = None,
    plot_file: FigureOption = None,
) -> None:
    """Check every op against float64, then time it beside its baselines."""
    from crrl_fast import benchmark
    from crrl_fast.device import resolve_device

    def run() -> benchmark.BenchmarkRecord:
        return benchmark.run_ops_benchmark(resolve_device(device), ops=only, rounds=rounds, on_case=_print_case)

    _measure(run, json_file, markdown_file, plot_file)


@bench_app.command()
def gru(
    device: DeviceOption = "auto",
    only: Annotated[str, typer.Option("--case", help="Only cases with this in their name: ragged, 3x1024, ...")] = "",
    rounds: RoundsOption = 30,
    json_file: RecordOption = None,
    markdown_file: TableOption = None,
    plot_file: FigureOption = None,
) -> None:
    """Check the GRU against float64, then time it beside nn.GRU and its matrix products alone."""
    from crrl_fast import benchmark
    from crrl_fast.device import resolve_device

    def run() -> benchmark.BenchmarkRecord:
        return benchmark.run_gru_benchmark(
            resolve_device(device),
            only=only,
            rounds=rounds,
            on_case=_print_case,
            on_skip=lambda line: print_line(f"skipped {line}"),
        )

    _measure(run, json_file, markdown_file, plot_file)


def _print_case(case: CaseRecord) -> None:
    print_line(f"measured {case.op}: {case.case}")


def _measure(
    run: Callable[[], BenchmarkRecord], json_file: Path | None, markdown_file: Path | None, plot_file: Path | None
) -> None:
    """Run a benchmark, print its table, and write what is asked for."""
    from crrl_fast import benchmark
    from crrl_fast.files import write_json, write_text

    if plot_file:
        benchmark.require_matplotlib()
    record = run()
    print_wide(benchmark.render(record))
    if json_file:
        write_json(json_file, asdict(record))
    if markdown_file:
        write_text(markdown_file, benchmark.markdown(record))
    if plot_file:
        benchmark.plot(record, plot_file)


@bench_app.command()
def train(
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="A data set name, a store's path, or ntu60-size, which is generated; may be repeated; "
            "default: ucla where it is found, demo, ntu60-size."
        ),
    ] = None,
    stages: Annotated[str, typer.Option(help="Of ser, cml, inf.")] = "cml,inf",
    rounds: Annotated[int, typer.Option(help="Timed rounds of each stage.", min=1)] = 10,
    steps: Annotated[int, typer.Option(help="Steps of each contender in a round.", min=1)] = 5,
    curve_steps: Annotated[
        int, typer.Option(help="Steps whose losses are compared, on the first data set; 0: none.", min=0)
    ] = 200,
    growth: Annotated[
        bool, typer.Option("--growth", help="Time ours on 1,000, 10,000 and 100,000 generated clips, too.")
    ] = False,
    processes: Annotated[
        str | None,
        typer.Option(help="Instead, time ours in so many processes on the first data set: 1,2 and so on."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, batches and generated clips.")] = 0,
    device: DeviceOption = "auto",
    json_file: RecordOption = None,
    markdown_file: TableOption = None,
    plot_file: FigureOption = None,
) -> None:
    """Train beside the release's algorithm in stock PyTorch: the same losses first, then speed and memory."""
    from crrl_fast.benchmark import require_matplotlib
    from crrl_fast.benchmark import train as benchmark
    from crrl_fast.device import resolve_device
    from crrl_fast.files import write_json, write_text

    if plot_file:
        require_matplotlib()
    plan = benchmark.Plan(
        resolve_device(device), names_in(stages), rounds, steps, curve_steps, growth=growth, seed=seed
    )
    if processes is not None:
        _measure_scaling(plan, processes, data, json_file, markdown_file, plot_file)
        return
    record = benchmark.run_train_benchmark(plan, data, on_progress=print_line)
    print_wide(benchmark.render(record))
    if json_file:
        write_json(json_file, asdict(record))
    if markdown_file:
        write_text(markdown_file, benchmark.markdown(record))
    if plot_file:
        benchmark.plot(record, plot_file)
    if record.disagreements:
        fail("; ".join(map(benchmark.disagreement, record.disagreements)), DISAGREEMENT)


def _measure_scaling(
    plan: Plan,
    processes: str,
    data: list[str] | None,
    json_file: Path | None,
    markdown_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Measure weak scaling, print its table, and write what is asked for."""
    from crrl_fast.benchmark.train import scaling
    from crrl_fast.files import write_json, write_text

    if plot_file:
        raise ConfigError("--processes gives a table and a record, and no figure: leave --plot out")
    numbers = whole_numbers_in(processes, "--processes")
    record = scaling.run_scaling_benchmark(plan, numbers, data, on_progress=print_line)
    print_wide(scaling.render(record))
    if json_file:
        write_json(json_file, asdict(record))
    if markdown_file:
        write_text(markdown_file, scaling.markdown(record))
