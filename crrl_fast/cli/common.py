"""What every command shares: the console, options, and how lines, tables and errors are printed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console, RenderableType

from crrl_fast.errors import ConfigError, shortened

if TYPE_CHECKING:
    from crrl_fast.data.preparation import Findings

USER_ERROR = 2
DISAGREEMENT = 1
INTERRUPTED = 130
FILE_WIDTH = 150
"""Columns of a table that goes to a file or a pipe, where rich would assume 80."""

_LONGEST = 2000

console = Console()

DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
RunArgument = Annotated[Path, typer.Argument(help="A run folder that `crrl-fast pretrain` wrote.")]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        help="A stage of the run (ser, cml, inf, joint), concat for ser and cml side by side, or random for an "
        "untrained one; default: that of the run's fusion."
    ),
]
LayoutOption = Annotated[str | None, typer.Option(help="Layout of the files; default: recognised.")]
LabelsOption = Annotated[Path | None, typer.Option(help="A CSV of labels, where the files have none.")]
SkipBadOption = Annotated[bool, typer.Option("--skip-bad", help="Leave out and list what cannot be read.")]
WorkersOption = Annotated[int | None, typer.Option(help="Parallel readers; default: all processors.", min=1)]
DataOption = Annotated[str | None, typer.Option(help="The run's store, where it has moved.")]


def fail(message: str, code: int) -> NoReturn:
    """Print ``message`` as one line on stderr and exit with ``code``."""
    print(f"crrl-fast: {shortened(printable(' '.join(message.split())), _LONGEST)}", file=sys.stderr)
    sys.exit(code)


def printable(text: str) -> str:
    """Return a text in which what a terminal would obey or cannot show is a question mark: names come from files."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def names_in(text: str) -> tuple[str, ...]:
    """Return the names of a comma-separated list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def numbers_in(text: str, option: str) -> tuple[float, ...]:
    """Return the numbers of a comma-separated list.

    Raises:
        ConfigError: one of them is none.
    """
    try:
        return tuple(float(name) for name in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{option} {text!r}: not a list of numbers such as 0.6,0.6,0.4") from error


def whole_numbers_in(text: str, option: str) -> tuple[int, ...]:
    """Return the whole numbers of a comma-separated list.

    Raises:
        ConfigError: one of them is none.
    """
    try:
        return tuple(int(name) for name in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{option} {text!r}: not a list of whole numbers such as 1,5,10") from error


def counted(count: int, what: str) -> str:
    """Return ``1 clip``, ``2 clips`` and so on."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def print_line(line: str, to: Console = console) -> None:
    """Print ``line`` as it is, however wide the terminal."""
    to.print(printable(str(line)), highlight=False, soft_wrap=True, markup=False)


def print_wide(table: RenderableType) -> None:
    """Print ``table``, in a file or a pipe as wide as it needs to be."""
    (console if console.is_terminal else Console(width=FILE_WIDTH)).print(table)


def print_findings(findings: Findings, to: Console = console) -> None:
    """Print what was wrong with a source, and what was left out of it."""
    for problem in findings.problems:
        print_line(problem, to)
    for why, count in findings.skipped.items():
        print_line(f"left out: {counted(count, 'clip')}, {why}", to)
