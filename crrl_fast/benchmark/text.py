"""Numbers and rows as benchmarks write them for people."""

from __future__ import annotations

from collections.abc import Sequence

from crrl_fast.benchmark.record import Record, Spread


def short(value: float) -> str:
    """Three digits, never in powers of ten."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def with_spread(spread: Spread, scale: float = 1.0, unit: str = "") -> str:
    """The median with its unit, and in brackets the 10th and 90th percentiles."""
    return f"{short(spread.median * scale)}{unit} ({short(spread.p10 * scale)} to {short(spread.p90 * scale)})"


def byte_size(count: int) -> str:
    """Bytes in the binary unit that suits them."""
    unit, size = next(((unit, size) for unit, size in _UNITS if count >= size), _UNITS[-1])
    return f"{short(count / size)} {unit}"


_UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def markdown_row(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def circumstances(record: Record, how_often: str) -> str:
    """Where and how a record was taken, in a line."""
    software = ", ".join(f"{name} {version}" for name, version in record.versions.items() if version)
    threads = f"{record.threads} thread{'s' if record.threads > 1 else ''}"
    return f"{record.device}: {record.device_name}, {threads}, {how_often}; {software}"
