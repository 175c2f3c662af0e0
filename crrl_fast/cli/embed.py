"""`embed`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from crrl_fast.cli.common import (
    DeviceOption,
    EncoderOption,
    LabelsOption,
    LayoutOption,
    RunArgument,
    SkipBadOption,
    WorkersOption,
    console,
    counted,
    print_findings,
    print_line,
)

if TYPE_CHECKING:
    from crrl_fast.embedding import Embeddings

_READER_STOPPED = 141
"""What a shell says of a process whose reader has left: 128 + SIGPIPE."""


def embed(
    run: RunArgument,
    data: Annotated[str, typer.Argument(help="A data set name, a store, or files in any layout that `prepare` reads.")],
    encoder: EncoderOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to: .npz, .parquet or .csv; default: CSV on standard output.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="The split of --part; default: the run's, else the first.")] = None,
    part: Annotated[str | None, typer.Option(help="train or test, of --split; default: all clips.")] = None,
    layout: LayoutOption = None,
    joints: Annotated[
        str | None, typer.Option(help="Joint layout, where the files do not say; default: the run's.")
    ] = None,
    labels: LabelsOption = None,
    dataset: Annotated[
        str | None, typer.Option(help="Name of the data set in the files: ntu60, pku1, ...; default: the files'.")
    ] = None,
    skip_bad: SkipBadOption = False,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Write the features of clips, with their names and labels."""
    from crrl_fast.data.catalog import load_data, read_source
    from crrl_fast.data.layouts import resolve_layout
    from crrl_fast.data.preparation import Findings
    from crrl_fast.device import resolve_device
    from crrl_fast.display import counting
    from crrl_fast.embedding import Embedder, source, tables
    from crrl_fast.run import RunFolder

    wanted = source.Part(part, split)
    if out is not None:
        tables.check_table(out)
    reader_options = {"--joints": joints, "--labels": labels, "--dataset": dataset, "--skip-bad": skip_bad}
    files = source.find_files(data, layout, reader_options)
    folder = RunFolder.open(run)
    embedder = Embedder.of_run(folder, encoder, resolve_device(device))
    messages = Console(stderr=True) if out is None else console
    findings = Findings()
    if files is None:
        store = load_data(data).store
    else:
        name = dataset or files.resolve().stem
        recording, found = read_source(
            files,
            layout,
            dataset=name,
            joints=resolve_layout(joints) if joints else embedder.frames.layout,
            labels=labels,
            skip=findings.skip,
            workers=workers,
            **({"report": findings.report} if skip_bad else {}),
        )
        with counting(messages, "reading", recording.count) as progress:
            store = source.load_recording(
                embedder,
                recording,
                findings,
                dataset=name,
                skip_bad=skip_bad,
                on_progress=lambda: progress(findings.seen),
            )
    embeddings = embedder.encode_store(store, wanted.index(store, folder.config.split))
    if files is not None:
        print_line(f"{files}: {found}", messages)
        print_findings(findings, messages)
    if out is None:
        _print_csv(embeddings)
    else:
        tables.write_table(out, embeddings)
    size = f"{counted(len(embeddings), 'clip')}, {embedder.feature_size} features each"
    print_line(f"{out or 'standard output'}: {size}, encoder {encoder or folder.default_encoder()} of {run}", messages)


def _print_csv(embeddings: Embeddings) -> None:
    """Print a CSV; end quietly where its reader, `head` for instance, has seen enough."""
    from crrl_fast.embedding.tables import write_csv

    try:
        write_csv(sys.stdout, embeddings)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_READER_STOPPED)
