"""Records for people: tables in the terminal, Markdown for a page."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from crrl_fast.benchmark.record import BenchmarkRecord, CaseRecord, Measurement, Spread

COLUMNS = ("contender", "median (p10 to p90)", "ours is faster by", "error", "memory")


def render(record: BenchmarkRecord) -> RenderableType:
    """Lay the record out for a terminal, one table a case."""
    parts: list[RenderableType] = [Text(_circumstances(record))]
    for case in record.cases:
        table = Table(*COLUMNS, title=_title(case), title_justify="left")
        for row in _rows(case):
            table.add_row(*row)
        parts.append(table)
    return Group(*parts)


def markdown(record: BenchmarkRecord) -> str:
    """Return the record as Markdown, one table a case."""
    lines = [_circumstances(record)]
    for case in record.cases:
        lines += ["", f"**{_title(case)}**", "", _line(COLUMNS), _line(("---",) * len(COLUMNS))]
        lines += [_line(row) for row in _rows(case)]
    return "\n".join(lines) + "\n"


def _circumstances(record: BenchmarkRecord) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items() if version)
    return f"{record.device}: {record.device_name}, {record.threads} threads, {record.rounds} rounds; {versions}"


def _title(case: CaseRecord) -> str:
    return f"{case.op} {case.case}"


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _rows(case: CaseRecord) -> list[tuple[str, ...]]:
    ours, *others = case.measurements
    return [_row(ours, ""), *(_row(other, _times(other.speedup)) for other in others)]


def _row(measurement: Measurement, speedup: str) -> tuple[str, ...]:
    return (
        measurement.name,
        _seconds(measurement.seconds),
        speedup,
        "" if measurement.error is None else f"{measurement.error:.1e}",
        "" if measurement.extra_bytes is None else f"{measurement.extra_bytes / 2**20:.1f} MiB",
    )


def _seconds(spread: Spread) -> str:
    unit, scale = ("ms", 1e3) if spread.median >= 1e-3 else ("us", 1e6)
    return f"{_short(spread.median * scale)} {unit} ({_short(spread.p10 * scale)} to {_short(spread.p90 * scale)})"


def _times(spread: Spread) -> str:
    return f"{spread.median:.2f}x ({spread.p10:.2f} to {spread.p90:.2f})"


def _short(value: float) -> str:
    """Three digits, never in powers of ten."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
