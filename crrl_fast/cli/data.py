"""`prepare` and `inspect`: data sets into stores, and what is in them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from crrl_fast.cli.common import (
    USER_ERROR,
    LabelsOption,
    LayoutOption,
    SkipBadOption,
    WorkersOption,
    console,
    counted,
    print_findings,
    print_line,
)
from crrl_fast.errors import ConfigError


def prepare(
    name: Annotated[str, typer.Argument(help="demo, ucla, ntu60, ..., or any name for data of your own.")],
    source: Annotated[Path | None, typer.Argument(help="Its files: a folder, an archive or a file.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The store; default: $CRRL_DATA or ./data, NAME.safetensors.")
    ] = None,
    layout: LayoutOption = None,
    joints: Annotated[
        str | None, typer.Option(help="Joint layout, where the files do not say: ntu25, ..., or FILE.toml.")
    ] = None,
    labels: LabelsOption = None,
    check: Annotated[bool, typer.Option("--check", help="Read all and report every problem; write nothing.")] = False,
    skip_bad: SkipBadOption = False,
    steps: Annotated[
        str,
        typer.Option(
            "--preprocess",
            help="Steps in order: center, rotate, turn, scale, downsample=N, resample=N, motion, bone; or none.",
        ),
    ] = "center,downsample=60",
    workers: WorkersOption = None,
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
        print_line(f"{source}: {found}")
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
    print_findings(findings)
    if check:
        print_line(f"{counted(findings.taken, 'clip')} can be read, {counted(len(findings.problems), 'problem')}")
        if findings.problems:
            raise typer.Exit(USER_ERROR)
        return
    store = Store.open(path)
    print_line(
        f"{path}: {len(store)} clips, {len(store.frames)} frames, {store.num_classes} classes, {store.layout.name}"
    )
    for split in store.info.splits:
        try:
            train, test = store.split(split)
        except ConfigError as problem:  # files that are only a part of the data set
            print_line(f"no split {split}: {problem}")
        else:
            print_line(f"split {split}: {len(train)} training clips, {len(test)} test clips")


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
        print_line(f"{file}: clip {index}, {title}")
    if clip is None or json_file:
        found = inspection.inspect_store(store, path)
        if json_file:
            write_json(json_file, asdict(found))
        if clip is None:
            console.print(render(found, all_classes))
