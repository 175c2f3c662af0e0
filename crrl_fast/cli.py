"""The command line: parse, call, print."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console, RenderableType
from rich.table import Table

from crrl_fast.errors import ConfigError, CrrlError

if TYPE_CHECKING:
    from crrl_fast.benchmark.record import BenchmarkRecord, CaseRecord

USER_ERROR = 2
DISAGREEMENT = 1
INTERRUPTED = 130
FILE_WIDTH = 150
"""Columns of a table that goes to a file or a pipe, where rich would assume 80."""

app = typer.Typer(
    help="Fast, practical CRRL: self-supervised pretraining of skeleton-action encoders.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
eval_app = typer.Typer(help="Evaluate the frozen encoder of a run.", no_args_is_help=True)
bench_app = typer.Typer(help="Measure against baselines in the same run.", no_args_is_help=True)
app.add_typer(eval_app, name="eval")
app.add_typer(bench_app, name="bench")

console = Console()

DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
RunArgument = Annotated[Path, typer.Argument(help="A run folder that `crrl-fast pretrain` wrote.")]
EncoderOption = Annotated[
    str | None, typer.Option(help="ser, cml, inf, or random for an untrained one; default: the run's last fusion.")
]
DataOption = Annotated[str | None, typer.Option(help="The run's store, where it has moved.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Where to write the result; default: RUN/eval/.")]
RoundsOption = Annotated[int, typer.Option(help="Timed rounds of each case; slow cases get fewer.", min=1)]
RecordOption = Annotated[Path | None, typer.Option("--json", help="Where to write the record.")]
TableOption = Annotated[Path | None, typer.Option("--markdown", help="Where to write the table.")]
FigureOption = Annotated[Path | None, typer.Option("--plot", help="Where to write the figure, a PNG.")]


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="demo, ucla, ntu60, ..., or any name for data of your own.")],
    source: Annotated[Path | None, typer.Argument(help="Its files: a folder, an archive or a file.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The store; default: $CRRL_DATA or ./data, NAME.safetensors.")
    ] = None,
    layout: Annotated[str | None, typer.Option(help="Layout of the files; default: recognised.")] = None,
    joints: Annotated[
        str | None, typer.Option(help="Joint layout, where the files do not say: ntu25, ..., or FILE.toml.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="A CSV of labels, where the files have none.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Read all and report every problem; write nothing.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out and list what cannot be read.")] = False,
    steps: Annotated[
        str, typer.Option("--preprocess", help="Steps in order: center, rotate, scale, downsample=N; or none.")
    ] = "center,rotate,downsample=60",
    workers: Annotated[int | None, typer.Option(help="Parallel readers; default: all processors.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of the generated demo set.", min=0)] = 0,
) -> None:
    """Read a data set into one store; `crrl-fast prepare --check SOURCE` only checks it."""
    from crrl_fast.data import catalog, preparation
    from crrl_fast.data.preprocess import parse_steps
    from crrl_fast.data.store import Store
    from crrl_fast.display import counting

    if check and source is None:
        source = Path(name)
    steps_in_order = parse_steps(steps)
    findings = preparation.Findings()
    recording, found = catalog.open_recording(
        name,
        source,
        layout=layout,
        joints=joints,
        labels=labels,
        skip=findings.skip,
        workers=workers,
        seed=seed,
        **({"report": findings.report} if check or skip_bad else {}),
    )
    if source is not None:
        _print(f"{source}: {found}")
    path = out or catalog.default_path(name)
    with counting(console, "reading", recording.count) as progress:

        def on_progress() -> None:
            progress(findings.seen)

        if check:
            preparation.check(recording, findings, dataset=name, on_progress=on_progress)
        else:
            preparation.write(
                path,
                recording,
                findings,
                dataset=name,
                steps=steps_in_order,
                skip_bad=skip_bad,
                on_progress=on_progress,
            )
    for problem in findings.problems:
        _print(problem)
    for why, count in findings.skipped.items():
        _print(f"left out: {_number(count, 'clip')}, {why}")
    if check:
        _print(f"{_number(findings.taken, 'clip')} can be read, {_number(len(findings.problems), 'problem')}")
        if findings.problems:
            raise typer.Exit(USER_ERROR)
        return
    store = Store.open(path)
    _print(f"{path}: {len(store)} clips, {len(store.frames)} frames, {store.num_classes} classes, {store.layout.name}")
    for split in store.info.splits:
        try:
            train, test = store.split(split)
        except ConfigError as problem:  # files that are only a part of the data set
            _print(f"no split {split}: {problem}")
        else:
            _print(f"split {split}: {len(train)} training clips, {len(test)} test clips")


@app.command("inspect")
def inspect_data(
    data: Annotated[str, typer.Argument(metavar="STORE", help="A data set name or the path of a store.")],
    all_classes: Annotated[bool, typer.Option("--classes", help="List all classes.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write all that was found.")] = None,
    clip: Annotated[str | None, typer.Option(help="Draw this clip, by number or name, instead.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The drawing: .png for a strip, .gif animated; default: DATASET-clip-N.png.")
    ] = None,
    view: Annotated[str, typer.Option(help="Of the drawing: front, side or top.")] = "front",
) -> None:
    """Say what is in a store, or draw one of its clips."""
    from crrl_fast.data import inspection
    from crrl_fast.data.catalog import open_data
    from crrl_fast.data.drawing import draw_clip
    from crrl_fast.files import write_json
    from crrl_fast.inspection_table import clip_title, render

    if out is not None and clip is None:
        raise ConfigError(f"--out {out} is for a drawing: say which with --clip")
    store, path = open_data(data)
    if clip is not None:
        index = inspection.find_clip(store, clip)
        file = out or Path(f"{store.info.dataset}-clip-{index}.png")
        title = clip_title(store, index)
        draw_clip(file, store.clip(index).numpy(), store.layout, title, view=view, fps=store.info.fps)
        _print(f"{file}: clip {index}, {title}")
    if clip is None or json_file:
        found = inspection.inspect_store(store, path)
        if json_file:
            write_json(json_file, asdict(found))
        if clip is None:
            console.print(render(found, all_classes))


@app.command()
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
        stages=_names(stages),
        out=out or Path("runs") / name,
        seed=seed,
        device=resolve_device(device),
        probe_every=probe_every,
    )
    try:
        run = run_pretraining(request, console)
    except KeyboardInterrupt:
        _fail(f"interrupted: {request.out} keeps its log and the stages that finished", INTERRUPTED)
    _print(f"done: {run.path}; evaluate it with `crrl-fast eval linear {run.path}`")


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
            on_skip=lambda line: _print(f"skipped {line}"),
        )

    _measure(run, json_file, markdown_file, plot_file)


def _print_case(case: CaseRecord) -> None:
    _print(f"measured {case.op}: {case.case}")


def _measure(
    run: Callable[[], BenchmarkRecord], json_file: Path | None, markdown_file: Path | None, plot_file: Path | None
) -> None:
    """Run a benchmark, print its table, and write what is asked for."""
    from crrl_fast import benchmark
    from crrl_fast.files import write_json, write_text

    if plot_file:
        benchmark.require_matplotlib()
    record = run()
    _print_wide(benchmark.render(record))
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
    plan = benchmark.Plan(resolve_device(device), _names(stages), rounds, steps, curve_steps, growth=growth, seed=seed)
    record = benchmark.run_train_benchmark(plan, data, on_progress=_print)
    _print_wide(benchmark.render(record))
    if json_file:
        write_json(json_file, asdict(record))
    if markdown_file:
        write_text(markdown_file, benchmark.markdown(record))
    if plot_file:
        benchmark.plot(record, plot_file)
    if record.disagreements:
        _fail("; ".join(map(benchmark.disagreement, record.disagreements)), DISAGREEMENT)


@app.command()
def doctor() -> None:
    """Say what was built, what runs, and how to mend what does not fit."""
    from crrl_fast import doctor as checks

    report = checks.examine()
    console.print(checks.render(report))
    if report.problems:
        raise typer.Exit(1)


def main() -> NoReturn:
    """Run the command line; a user's mistake ends in one line on stderr and exit code 2."""
    try:
        code = app(prog_name="crrl-fast", standalone_mode=False)
    except CrrlError as error:
        _fail(str(error), USER_ERROR)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except Exception as error:
        # Usage errors are click's, which Typer vendors or not depending on its version: known by their method.
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message().rstrip(".")
        if not message:  # a command group without a command: its help has been printed
            sys.exit(USER_ERROR)
        context = getattr(error, "ctx", None)
        _fail(f"{message}; see `{context.command_path} --help`" if context else message, USER_ERROR)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    print(f"crrl-fast: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _print(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True, markup=False)


def _print_wide(table: RenderableType) -> None:
    (console if console.is_terminal else Console(width=FILE_WIDTH)).print(table)


def _print_result(record: dict[str, object], *rows: tuple[str, str]) -> None:
    table = Table(show_header=False)
    table.add_row("data set", f"{record['dataset']}, split {record['split']}")
    table.add_row("clips", f"{record['train_clips']} training, {record['test_clips']} test")
    table.add_row("encoder", f"{record['encoder']} of {record['run']}")
    for name, value in rows:
        table.add_row(name, value)
    table.add_row("protocol", str(record["protocol"]))
    console.print(table)
    _print(f"written to {record['file']}")
