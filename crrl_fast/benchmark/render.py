"""Records for people: one table, for the terminal or as Markdown for a page, with a section for each case."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import zip_longest

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from crrl_fast.benchmark.memory import EXTRA_MEMORY
from crrl_fast.benchmark.record import BenchmarkRecord, CaseRecord, Measurement, Spread
from crrl_fast.benchmark.text import byte_size, circumstances, markdown_row, short, with_spread

COLUMNS = ("contender", "median (p10 to p90)", "ours is faster by", "error", "peak extra memory")
CASE_WIDTH = 24


def render(record: BenchmarkRecord) -> RenderableType:
    """Lay the record out for a terminal."""
    narrowest = {"case": len("forward+backward"), "contender": len("torch.compile")}
    columns = ("case", *COLUMNS)
    table = Table(*(Column(name, overflow="fold", min_width=narrowest.get(name)) for name in columns))
    for case in record.cases:
        # The case's name runs down the section's first column, beside the contenders.
        title = [case.op, *textwrap.wrap(case.case, CASE_WIDTH)]
        for name, row in zip_longest(title, _rows(case)):
            table.add_row(name or "", *(row or ()))
        table.add_section()
    return Group(Text(_circumstances(record)), table, *map(Text, _remarks(record)))


def markdown(record: BenchmarkRecord) -> str:
    """Return the record as Markdown."""
    lines = [_circumstances(record), "", markdown_row(COLUMNS), markdown_row(("---",) * len(COLUMNS))]
    for case in record.cases:
        lines.append(markdown_row((f"**{case.op} {case.case}**", *("",) * (len(COLUMNS) - 1))))
        lines += [markdown_row(row) for row in _rows(case)]
    lines += ["", *(f"- {remark}" for remark in _remarks(record))]
    return "\n".join(lines) + "\n"


def _circumstances(record: BenchmarkRecord) -> str:
    rounds = sorted({case.rounds for case in record.cases} or {record.rounds})
    span = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"
    return circumstances(record, f"{span} rounds")


def _remarks(record: BenchmarkRecord) -> list[str]:
    """Say what the columns mean, then every note once."""
    notes = [
        "error: largest difference from float64 over the largest value; none for a yardstick",
        f"peak extra memory: {EXTRA_MEMORY}",
        *(f"{m.name}: {m.note}" for case in record.cases for m in case.measurements if m.note),
    ]
    return list(dict.fromkeys(notes))


def _rows(case: CaseRecord) -> Iterator[tuple[str, ...]]:
    for place, measurement in enumerate(case.measurements):
        yield (
            measurement.name,
            _seconds(measurement.seconds) + _per_unit(case, measurement),
            with_spread(measurement.speedup, unit="x") if place else "",
            "" if measurement.error is None else f"{measurement.error:.1e}",
            "" if measurement.extra_bytes is None else byte_size(measurement.extra_bytes),
        )


def _seconds(spread: Spread) -> str:
    unit, scale = (" ms", 1e3) if spread.median >= 1e-3 else (" us", 1e6)
    return with_spread(spread, scale, unit)


def _per_unit(case: CaseRecord, measurement: Measurement) -> str:
    return f", {short(measurement.seconds.median / case.batch * 1e6)} us a {case.unit}" if case.batch > 1 else ""
