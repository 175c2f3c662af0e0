"""`report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crrl_fast.cli.common import DeviceOption, console, print_line


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders that `crrl-fast pretrain` wrote.")],
    out: Annotated[
        Path | None, typer.Option(help="The page; default: RUN/report.html, or report.html for several runs.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="ser, cml, inf, or random for an untrained one; default: each run's own.")
    ] = None,
    data: Annotated[list[str] | None, typer.Option(help="A run's store, where it has moved; may be repeated.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Write what is known of one or several runs to one HTML page."""
    from crrl_fast.device import resolve_device
    from crrl_fast.report.build import ReportRequest, write_report

    request = ReportRequest(tuple(runs), out, encoder, tuple(data or ()), resolve_device(device))
    with console.status("reading runs") as status:
        file = write_report(request, status.update)
    print_line(f"report: {file}, {file.stat().st_size / 1e6:.2f} MB")
