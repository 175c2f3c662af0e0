"""A record as one figure: how long each contender takes relative to ours. Needs matplotlib, the extra ``bench``."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from crrl_fast.benchmark.record import BenchmarkRecord, CaseRecord, Spread
from crrl_fast.errors import CrrlError
from crrl_fast.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 10.0
"""Inches; 1200 pixels at ``DPI``."""

DPI = 120

BAR = 0.18
"""Inches from bar to bar."""

LABEL = 34
"""Characters of a case's name in a line."""

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Of the palette of Okabe and Ito (2008), which the colour-blind tell apart."""

YARDSTICK, INK, FAINT = "#999999", "#222222", "#DDDDDD"


def require_matplotlib() -> None:
    """Say how to get matplotlib where it is missing: before the measuring, not after it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise CrrlError("a plot needs matplotlib: pip install matplotlib") from error


def plot(record: BenchmarkRecord, path: Path) -> None:
    """Draw the record to a PNG file."""
    require_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    ops = list(dict.fromkeys(case.op for case in record.cases))
    bars = [sum(len(case.measurements) for case in record.cases if case.op == op) for op in ops]
    figure = Figure(figsize=(WIDTH, BAR * (sum(bars) + 4 * len(bars)) + 1), dpi=DPI, layout="constrained")
    panels = figure.subplots(len(ops), sharex=True, squeeze=False, height_ratios=bars)[:, 0]
    colours = _colours(record)
    for op, panel in zip(ops, panels, strict=True):
        _draw(panel, op, [case for case in record.cases if case.op == op], colours)
    panels[-1].set_xlabel("time relative to ours, median and p10 to p90: right of 1 is slower than ours", color=INK)
    yardsticks = ", ".join(name for name, colour in colours.items() if colour == YARDSTICK)
    legend = {name: colour for name, colour in colours.items() if colour != YARDSTICK} | {
        f"yardstick: {yardsticks}": YARDSTICK
    }
    figure.legend(
        handles=[Patch(color=colour, label=name) for name, colour in legend.items()],
        title=f"{record.device_name}, {record.threads} threads, torch {record.versions['torch']}",
        loc="outside upper center",
        ncols=2,
        frameon=False,
    )
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _colours(record: BenchmarkRecord) -> dict[str, str]:
    """Give every contender but ours a colour, and the yardsticks one for all."""
    others = [other for case in record.cases for other in case.measurements[1:]]
    computing = list(dict.fromkeys(other.name for other in others if other.error is not None))
    return {
        other.name: YARDSTICK if other.error is None else COLOURS[computing.index(other.name) % len(COLOURS)]
        for other in others
    }


def _draw(panel: Axes, op: str, cases: list[CaseRecord], colours: dict[str, str]) -> None:
    ticks, labels, place = [], [], 0.0
    for case in cases:
        others = case.measurements[1:]
        for offset, other in enumerate(others):
            _bar(panel, place + offset, other.speedup, colours[other.name])
        ticks.append(place + (len(others) - 1) / 2)
        labels.append(textwrap.fill(case.case, LABEL))
        place += len(others) + 0.7
    panel.set_title(op, loc="left", fontsize=11, fontweight="bold", color=INK)
    panel.annotate("ours", (1, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8, color=INK)
    panel.axvline(1, color=INK, linewidth=1)
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter("{x:g}x")
    panel.set_yticks(ticks, labels, fontsize=8)
    panel.set_ylim(place - 0.9, -0.8)
    panel.grid(axis="x", color=FAINT, linewidth=0.6)
    panel.set_axisbelow(True)
    panel.tick_params(axis="y", length=0)
    panel.spines[["top", "right", "left"]].set_visible(False)


def _bar(panel: Axes, place: float, ratio: Spread, colour: str) -> None:
    whiskers = [[ratio.median - ratio.p10], [ratio.p90 - ratio.median]]
    line = {"ecolor": INK, "elinewidth": 0.8, "capsize": 1.5}
    panel.barh(place, ratio.median - 1, left=1, color=colour, xerr=whiskers, error_kw=line)
    panel.annotate(
        f"{ratio.median:.3g}",
        (max(ratio.p90, 1), place),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=7,
        color=INK,
    )
