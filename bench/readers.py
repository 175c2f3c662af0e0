"""Every foreign layout there and back: the same clips written in each, read by `crrl-fast prepare`, compared and timed.

    python bench/readers.py [--clips 5000] [--layouts ucla,ntu-raw] [--json FILE] [--markdown FILE]

The clips are generated. Each reader runs in a process of its own, so that its peak memory is its own, without
preprocessing and with files that were just written, so that they lie in the page cache. The coordinates of every clip
are compared with its source before a figure is reported. Run it on an idle machine.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from foreign import LAYOUTS, Foreign, Written, ntu_clips
from rich.console import Console
from rich.table import Table

from crrl_fast.data.clip import Clip
from crrl_fast.data.store import Store
from crrl_fast.files import write_json, write_text
from crrl_fast.versions import software_versions

TOLERANCE = 1e-6
"""Of the largest coordinate of a clip: float32 rounds to 6e-8 of a value, and text of nine digits gives it back."""

COLUMNS = ("layout", "files", "seconds", "MB/s", "clips/s", "peak memory (at start)", "largest error")


@dataclass(frozen=True)
class Measurement:
    """One layout.

    Attributes:
        layout: its name.
        files: how many it has.
        file_bytes: their size.
        clips: that were read and found equal.
        seconds: of each repetition, from loaded libraries to the finished store.
        peak_bytes: most memory of the process, over the repetitions.
        loaded_bytes: of these, before the command began: Python and its libraries.
        child_peak_bytes: most memory of a process that the reader started itself; 0 where there was none.
        largest_error: in the unit of the coordinates.
    """

    layout: str
    files: int
    file_bytes: int
    clips: int
    seconds: list[float]
    peak_bytes: int
    loaded_bytes: int
    child_peak_bytes: int
    largest_error: float


def main(
    clips: Annotated[int, typer.Option(help="How many to write.", min=1)] = 5000,
    layouts: Annotated[str | None, typer.Option(help="Comma-separated; default: all.")] = None,
    rounds: Annotated[int, typer.Option(help="Times that each is read.", min=1)] = 3,
    workers: Annotated[int | None, typer.Option(help="For readers that use several; default: all processors.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown")] = None,
) -> None:
    """Write, read, compare and time each layout."""
    console = Console()
    chosen = layouts.split(",") if layouts else list(LAYOUTS)
    source_clips = ntu_clips(clips)
    measurements = []
    for name in chosen:
        if name not in LAYOUTS:
            raise SystemExit(f"unknown layout {name!r}: choose from {', '.join(LAYOUTS)}")
        with tempfile.TemporaryDirectory() as folder:
            written = LAYOUTS[name].write(Path(folder), source_clips)
            measurements.append(measure(name, LAYOUTS[name], written, rounds, workers))
        console.print(f"measured {name}", highlight=False)
    record = {
        "what": "generated clips written in each foreign layout and read by `crrl-fast prepare --preprocess none`",
        "clips": clips,
        "frames": sum(len(clip.coords) for clip in source_clips),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "workers": workers or os.cpu_count(),
        "versions": software_versions(),
        "layouts": [asdict(measurement) for measurement in measurements],
    }
    table = Table(*COLUMNS)
    for measurement in measurements:
        table.add_row(*cells(measurement))
    console.print(table)
    if json_file:
        write_json(json_file, record)
    if markdown_file:
        write_text(markdown_file, markdown(record, measurements))


def measure(name: str, layout: Foreign, written: Written, rounds: int, workers: int | None) -> Measurement:
    """Read what was written ``rounds`` times, each in a new process, and compare it with its source."""
    files = [written.source] if written.source.is_file() else [f for f in written.source.rglob("*") if f.is_file()]
    runs, error = [], 0.0
    with tempfile.TemporaryDirectory() as temporary:
        store, result = Path(temporary) / "out.safetensors", Path(temporary) / "result.json"
        options = ["--layout", layout.reader, "--preprocess", "none", "--out", str(store)]
        options += ["--joints", layout.joints] if layout.joints else []
        options += ["--workers", str(workers)] if workers else []
        for _ in range(rounds):
            runs.append(run(result, ["prepare", layout.dataset, str(written.source), *options]))
            error = max(error, compare(name, Store.open(store), written.clips))
    return Measurement(
        layout=name,
        files=len(files),
        file_bytes=sum(file.stat().st_size for file in files),
        clips=len(written.clips),
        seconds=[run["seconds"] for run in runs],
        peak_bytes=max(run["peak_bytes"] for run in runs),
        loaded_bytes=max(run["loaded_bytes"] for run in runs),
        child_peak_bytes=max(run["child_peak_bytes"] for run in runs),
        largest_error=error,
    )


def run(result: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Run `crrl-fast` with these arguments and return what it took."""
    root = Path(__file__).parents[1]
    process = subprocess.run(
        [sys.executable, str(root / "bench" / "measured.py"), str(result), *arguments],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode != 0:
        raise SystemExit(f"crrl-fast {' '.join(arguments)}\nfailed: {process.stderr or process.stdout}")
    measured: dict[str, Any] = json.loads(result.read_text())
    return measured


def compare(name: str, store: Store, clips: Sequence[Clip]) -> float:
    """Return the largest difference between the clips of a store and their source.

    Clips go by name where the layout keeps names, and else by order.
    """
    if len(store) != len(clips):
        raise SystemExit(f"{name}: {len(clips)} clips were written, but {len(store)} read")
    index = {clip_name: i for i, clip_name in enumerate(store.info.clip_names)}
    by_name = all(clip.name in index for clip in clips)
    largest = 0.0
    for place, clip in enumerate(clips):
        i = index[clip.name] if by_name else place
        found = store.clip(i).numpy()
        expected = np.zeros_like(found)
        if found.shape[0] != len(clip.coords) or found.shape[2:] != clip.coords.shape[2:]:
            raise SystemExit(f"{name}: clip {clip.name} came back as {found.shape}, not {clip.coords.shape}")
        expected[:, : clip.coords.shape[1]] = clip.coords
        error = float(np.abs(found - expected).max())
        if error > TOLERANCE * float(np.abs(clip.coords).max()):
            raise SystemExit(f"{name}: clip {clip.name} came back with an error of {error}")
        if int(store.labels[i]) not in (clip.label, -1):
            raise SystemExit(f"{name}: clip {clip.name} came back with label {int(store.labels[i])}, not {clip.label}")
        largest = max(largest, error)
    return largest


def cells(measured: Measurement) -> tuple[str, ...]:
    """Return a layout's row of the table."""
    seconds = statistics.median(measured.seconds)
    spread = f" ({min(measured.seconds):.2f} to {max(measured.seconds):.2f})" if len(measured.seconds) > 1 else ""
    peak = f"{measured.peak_bytes / 2**20:.0f} MiB ({measured.loaded_bytes / 2**20:.0f})"
    if measured.child_peak_bytes:
        peak += f" + {measured.child_peak_bytes / 2**20:.0f} MiB a worker"
    return (
        measured.layout,
        f"{measured.files:,} of {measured.file_bytes / 1e6:.0f} MB",
        f"{seconds:.2f}{spread}",
        f"{measured.file_bytes / 1e6 / seconds:.0f}",
        f"{measured.clips / seconds:,.0f}",
        peak,
        f"{measured.largest_error:.1e}" if measured.largest_error else "0",
    )


def markdown(record: dict[str, Any], measurements: Sequence[Measurement]) -> str:
    """Return the table and its circumstances."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items() if version)
    lines = [
        f"{record['clips']:,} clips, {record['frames']:,} frames; {record['cpus']} CPUs, {record['workers']} workers; "
        f"{versions}",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|" + "---|" * len(COLUMNS),
        *(f"| {' | '.join(cells(measurement))} |" for measurement in measurements),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
