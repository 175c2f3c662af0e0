"""`export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crrl_fast.cli.common import EncoderOption, RunArgument, names_in, print_line


def export(
    run: RunArgument,
    encoder: EncoderOption = None,
    formats: Annotated[
        str, typer.Option("--format", help="A comma list of safetensors, pt2 and onnx.")
    ] = "safetensors,pt2",
    out: Annotated[Path | None, typer.Option(help="The folder to write to; default: RUN/export.")] = None,
) -> None:
    """Write an encoder to files that load without crrl-fast, and check each."""
    from crrl_fast.export import export_encoder

    for file in export_encoder(run, out, encoder=encoder, formats=names_in(formats)):
        if file.difference is None:
            checked = "not checked, for onnxruntime is not installed"
        else:
            checked = f"on random ragged clips within {file.difference:.1e} (relative) of the encoder"
        print_line(f"{file.path}: {file.path.stat().st_size / 1e6:.1f} MB, {checked}")
