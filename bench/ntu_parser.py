"""Raw NTU RGB+D files: the native parser beside the plain-Python one, on one core.

    python bench/ntu_parser.py FOLDER_OR_ZIP [--rounds 10] [--json FILE] [--markdown FILE]

Every file is first parsed by both, and the results compared bit by bit; files that both refuse alike are left out of
the timing. The files are in memory, so disks do not count. Run it on an idle machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from crrl_fast import _ext
from crrl_fast.benchmark.ops import device_name
from crrl_fast.benchmark.record import Spread
from crrl_fast.data.readers.ntu import SUFFIX, plain
from crrl_fast.data.readers.source import open_source
from crrl_fast.errors import CrrlError
from crrl_fast.files import write_json, write_text
from crrl_fast.versions import software_versions

Parse = Callable[[bytes], plain.Parsed]


def main(
    source: Path,
    rounds: Annotated[int, typer.Option(min=1)] = 10,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown")] = None,
) -> None:
    """Time both parsers in turn."""
    if _ext.module is None:
        raise CrrlError(f"{_ext.import_error}; build it with: {_ext.REBUILD}")
    native: Parse = _ext.module.parse_ntu_skeleton
    with open_source(source, SUFFIX) as files:
        contents = [content for content in (read() for _, read in files) if agree(native, content)]
    if not contents:
        raise CrrlError(f"{source}: no file that can be parsed")
    megabytes = sum(map(len, contents)) / 1e6
    pairs = [(seconds(plain.parse_ntu_skeleton, contents), seconds(native, contents)) for _ in range(rounds)]
    record = {
        "what": "raw NTU RGB+D files parsed from memory on one core, MB/s: median, 10th and 90th percentile",
        "files": len(contents),
        "megabytes": megabytes,
        "rounds": rounds,
        "processor": device_name(torch.device("cpu")),
        "versions": software_versions(),
        "plain": asdict(Spread.of([megabytes / slow for slow, _ in pairs])),
        "native": asdict(Spread.of([megabytes / fast for _, fast in pairs])),
        "ratio": asdict(Spread.of([slow / fast for slow, fast in pairs])),
    }
    table = markdown(record)
    typer.echo(table, nl=False)
    if json_file:
        write_json(json_file, record)
    if markdown_file:
        write_text(markdown_file, table)


def agree(native: Parse, content: bytes) -> bool:
    """Return whether both parsers take ``content``.

    Raises:
        CrrlError: they differ.
    """
    results: list[list[bytes] | str] = []
    for parse in (native, plain.parse_ntu_skeleton):
        try:
            results.append([array.tobytes() for array in parse(content)])
        except ValueError as error:
            results.append(str(error))
    if results[0] != results[1]:
        raise CrrlError("the parsers differ over one of the files")
    return not isinstance(results[0], str)


def seconds(parse: Parse, contents: Sequence[bytes]) -> float:
    """Return the time that ``parse`` takes over all files."""
    began = time.perf_counter()
    for content in contents:
        parse(content)
    return time.perf_counter() - began


def markdown(record: dict[str, Any]) -> str:
    """Return the table: medians and the 10th to 90th percentiles."""
    lines = ["| parser | MB/s a core | times plain |", "|---|---|---|"]
    lines.append(f"| native | {_range(record['native'], 0)} | {_range(record['ratio'], 1)} |")
    lines.append(f"| plain Python | {_range(record['plain'], 0)} | 1 |")
    return "\n".join(lines) + "\n"


def _range(spread: dict[str, float], digits: int) -> str:
    return f"{spread['median']:.{digits}f} ({spread['p10']:.{digits}f} to {spread['p90']:.{digits}f})"


if __name__ == "__main__":
    typer.run(main)
