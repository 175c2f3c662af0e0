"""A record for people: a few tables, for the terminal or as Markdown for a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from crrl_fast.benchmark.memory import EXTRA_MEMORY
from crrl_fast.benchmark.text import byte_size, circumstances, markdown_row, short, with_spread
from crrl_fast.benchmark.train import agreement, pipeline
from crrl_fast.benchmark.train.record import CurveRecord, DataRecord, GrowthRecord, StepsRecord, TrainRecord

Row = tuple[str, ...]

ROOF_NOTE = (
    "share of torch.mm: floating-point operations of the matrix products on valid frames, a second, over those of a "
    "large torch.mm of the same dtype in the same round; above 100 % is possible where torch.mm is not the fastest way "
    "to multiply: in float32 on processors for which its library has no AVX-512 code, and on GPUs whose recurrent "
    "layers use TF32 by default and torch.mm does not"
)


@dataclass(frozen=True)
class Section:
    """Rows of a table under a line of their own."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Sheet:
    """A table; every row has as many cells as there are columns."""

    columns: Row
    sections: tuple[Section, ...]


def render(record: TrainRecord) -> RenderableType:
    """Lay the record out for a terminal."""
    tables = map(sheet_table, _sheets(record))
    return Group(Text(steps_taken(record)), *tables, *map(Text, _remarks(record)))


def markdown(record: TrainRecord) -> str:
    """Return the record as Markdown."""
    lines = [steps_taken(record), ""]
    for sheet in _sheets(record):
        lines += [*sheet_lines(sheet), ""]
    return "\n".join([*lines, *(f"- {remark}" for remark in _remarks(record))]) + "\n"


def steps_taken(record: StepsRecord) -> str:
    """Where and how a record of training steps was taken, in a line."""
    return circumstances(record, f"{record.rounds} rounds of {record.steps} steps")


def sheet_table(sheet: Sheet) -> Table:
    """Lay a table out for a terminal."""
    table = Table(*(Column(name, overflow="fold") for name in ("", *sheet.columns)))
    for section in sheet.sections:
        for place, row in enumerate(section.rows):
            table.add_row("" if place else section.title, *row)
        table.add_section()
    return table


def sheet_lines(sheet: Sheet) -> list[str]:
    """Return the lines of a table in Markdown."""
    lines = [markdown_row(sheet.columns), markdown_row(("---",) * len(sheet.columns))]
    for section in sheet.sections:
        lines.append(markdown_row((f"**{section.title}**", *("",) * (len(sheet.columns) - 1))))
        lines += map(markdown_row, section.rows)
    return lines


def disagreement(curve: CurveRecord) -> str:
    """Say in a line where a curve of ours leaves stock's."""
    step = curve.first_disagreement
    assert step is not None
    return (
        f"{curve.stage} on {curve.data}: the loss of step {step} is {curve.ours[step - 1]:.9g} and stock's "
        f"{curve.stock[step - 1]:.9g}, {curve.difference[step - 1]:.2g} of it apart, where rounding explains "
        f"{curve.tolerance[step - 1]:.2g}: they do not train alike, so nothing was timed"
    )


def _sheets(record: TrainRecord) -> Iterator[Sheet]:
    if record.data:
        yield Sheet(
            ("contender", "clips a second", "over stock", "share of torch.mm", "peak memory of a step"),
            tuple(section for data in record.data for section in _speed(data)),
        )
        yield Sheet(
            ("contender", "prepared once", "takes", "arrays held"),
            tuple(Section(f"{data.name}, preparation", tuple(_preparation(data))) for data in record.data),
        )
    if record.curves:
        yield Sheet(
            ("steps", "loss, first and last", "largest difference", "allowed there", "verdict"),
            tuple(Section(f"{curve.data}, {curve.stage}", (_curve(curve),)) for curve in record.curves),
        )
    if record.growth:
        yield Sheet(
            ("clips", "clips a second", "over the smallest", "shuffle", "store", "memory beyond the store"),
            (Section("ours float32, generated clips", tuple(map(_growth, record.growth))),),
        )


def _speed(data: DataRecord) -> Iterator[Section]:
    size = f"{data.clips:,} clips of {data.mean_frames:.0f} x {data.width}"
    for stage in data.stages:
        rows = tuple(
            (
                found.name,
                with_spread(found.clips_per_second),
                with_spread(found.ratio, unit="x"),
                with_spread(found.gemm_share, 100, " %"),
                byte_size(found.step_bytes),
            )
            for found in stage.contenders
        )
        yield Section(f"{data.name}, {stage.stage}: {size}, {short(stage.gflop_per_clip)} GFLOP a clip", rows)
    if data.pipeline:
        rows = tuple(
            (found.name, with_spread(found.clips_per_second), with_spread(found.ratio, unit="x"), "", "")
            for found in data.pipeline
        )
        yield Section(f"{data.name}, whole of {','.join(pipeline.STAGES)}", rows)


def _preparation(data: DataRecord) -> Iterator[Row]:
    for prepared in data.preparation:
        for what, seconds in prepared.seconds.items():
            yield prepared.name, what, f"{short(seconds)} s", byte_size(prepared.held_bytes)


def _curve(curve: CurveRecord) -> Row:
    difference = curve.difference
    step = max(range(len(difference)), key=lambda step: difference[step])
    last = curve.first_disagreement
    return (
        str(len(difference)),
        f"{curve.stock[0]:.4f} to {curve.stock[-1]:.4f}",
        f"{difference[step]:.1e} at step {step + 1}",
        f"{curve.tolerance[step]:.1e}",
        "as rounding grows" if last is None else f"differs from step {last}",
    )


def _growth(growth: GrowthRecord) -> Row:
    return (
        f"{growth.clips:,}",
        with_spread(growth.clips_per_second),
        with_spread(growth.relative, unit="x"),
        f"{short(growth.shuffle_seconds * 1e3)} ms an epoch",
        byte_size(growth.store_bytes),
        byte_size(growth.other_bytes),
    )


def _remarks(record: TrainRecord) -> list[str]:
    """Say what the columns mean and how figures were formed."""
    remarks = []
    if record.data:
        rates = ", ".join(f"{dtype} {with_spread(rate, 1e-9)}" for dtype, rate in record.gemm_flops.items())
        remarks += [
            "median of the rounds, and in brackets p10 to p90; ratios are taken round by round",
            "stock: the release's algorithm; the batches of a round are the same for all",
            f"{ROOF_NOTE}; torch.mm, GFLOP/s: {rates}",
            f"peak memory: {EXTRA_MEMORY}",
            f"{pipeline.HOW}, {pipeline.length(record.recipe)}",
            "preparation: done for the clips that the steps drew, and scaled by frames to all training clips",
        ]
    if record.curves:
        remarks.append(f"curves: {agreement.HOW}")
    if record.growth:
        remarks.append(
            "growth: a step of every stage in turn, seconds a valid frame times the mean clip; memory beyond the "
            "store: what building the trainer on it and two steps added to the process (on CUDA: to the device)"
        )
    return remarks
