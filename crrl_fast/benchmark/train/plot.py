"""A record as one figure: clips a second, shares of the GEMM rate, and loss curves. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crrl_fast.benchmark.plot import COLOURS, DPI, FAINT, INK, WIDTH, YARDSTICK, require_matplotlib
from crrl_fast.benchmark.record import Spread
from crrl_fast.benchmark.text import short
from crrl_fast.benchmark.train.record import OURS, OURS_BF16, STOCK, CurveRecord, TrainRecord
from crrl_fast.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAR, GAP = 0.2, 0.14
"""Inches from bar to bar, and between groups of bars."""

CURVE_HEIGHT = 2.4
"""Inches."""

CONTENDERS = {STOCK: YARDSTICK, OURS: COLOURS[0], OURS_BF16: COLOURS[1]}

Bar = tuple[str, Spread, str]
"""Contender, length and label."""

Group = tuple[str, list[Bar]]


def plot(record: TrainRecord, path: Path) -> None:
    """Draw the record to a PNG file."""
    require_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    speeds, shares = _speeds(record), _shares(record)
    bars = sum(len(group) * BAR + GAP for _, group in speeds) + 0.7
    heights = [*([bars] if speeds else []), *[CURVE_HEIGHT] * len(record.curves)]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.9), dpi=DPI, layout="constrained")
    panels = figure.subplots(len(heights), 2, squeeze=False, height_ratios=heights)
    if speeds:
        left, right = panels[0]
        _draw_bars(left, speeds, "clips a second, and the ratio to stock")
        _draw_bars(right, shares, "share of a large torch.mm of the same dtype, %", named=False)
        right.axvline(100, color=INK, linewidth=1)
    for (left, right), curve in zip(panels[len(panels) - len(record.curves) :], record.curves, strict=True):
        _draw_losses(left, curve)
        _draw_difference(right, curve)
    figure.legend(
        handles=[Patch(color=colour, label=name) for name, colour in CONTENDERS.items()],
        title=f"{record.device_name}, {record.threads} threads, torch {record.versions['torch']}",
        loc="outside upper center",
        ncols=len(CONTENDERS),
        frameon=False,
    )
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _speeds(record: TrainRecord) -> list[Group]:
    groups: list[Group] = []
    for data in record.data:
        rows = [(f"{data.name}\n{stage.stage}", stage.contenders) for stage in data.stages]
        rows += [(f"{data.name}\ncml,inf", data.pipeline)] if data.pipeline else []  # type: ignore[list-item]
        groups += [
            (title, [(found.name, found.clips_per_second, f"{short(found.ratio.median)}x") for found in contenders])
            for title, contenders in rows
        ]
    return groups


def _shares(record: TrainRecord) -> list[Group]:
    """Return a group for each of ``_speeds``, so that rows stand side by side; that of a whole pipeline is empty."""
    groups: list[Group] = []
    for data in record.data:
        for stage in data.stages:
            percents = [(found.name, _scaled(found.gemm_share, 100)) for found in stage.contenders]
            groups.append((stage.stage, [(name, share, f"{short(share.median)} %") for name, share in percents]))
        groups += [("", [])] if data.pipeline else []
    return groups


def _scaled(spread: Spread, factor: float) -> Spread:
    return Spread(spread.median * factor, spread.p10 * factor, spread.p90 * factor)


def _draw_bars(panel: Axes, groups: list[Group], title: str, *, named: bool = True) -> None:
    ticks, labels, place = [], [], 0.0
    for label, bars in groups:
        for offset, (name, length, text) in enumerate(bars):
            _bar(panel, place + offset, length, text, CONTENDERS[name])
        ticks.append(place + (len(CONTENDERS) - 1) / 2)
        labels.append(label)
        place += len(CONTENDERS) + GAP / BAR
    panel.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    panel.set_yticks(ticks if named else [], labels if named else [], fontsize=8)
    panel.set_ylim(place - 0.3, -0.8)
    panel.margins(x=0.18)
    panel.set_xlim(left=0)
    panel.grid(axis="x", color=FAINT, linewidth=0.6)
    _bare(panel)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)


def _bar(panel: Axes, place: float, length: Spread, text: str, colour: str) -> None:
    whiskers = [[length.median - length.p10], [length.p90 - length.median]]
    line = {"ecolor": INK, "elinewidth": 0.8, "capsize": 1.5}
    panel.barh(place, length.median, color=colour, xerr=whiskers, error_kw=line)
    panel.annotate(
        text,
        (length.p90, place),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=7,
        color=INK,
    )


def _draw_losses(panel: Axes, curve: CurveRecord) -> None:
    steps = range(1, len(curve.stock) + 1)
    panel.plot(steps, curve.stock, color=CONTENDERS[STOCK], linewidth=3, label=STOCK)
    panel.plot(steps, curve.ours, color=CONTENDERS[OURS], linewidth=1, label=OURS)
    _curve_panel(panel, f"loss of {curve.stage} on {curve.data}, same weights and batches")


def _draw_difference(panel: Axes, curve: CurveRecord) -> None:
    steps = range(1, len(curve.stock) + 1)
    panel.semilogy(steps, curve.tolerance, color=INK, linewidth=1, linestyle="--", label="allowed")
    panel.semilogy(steps, curve.difference, color=CONTENDERS[OURS], linewidth=1, label="ours from stock, relative")
    _curve_panel(panel, "difference, and what rounding may become")


def _curve_panel(panel: Axes, title: str) -> None:
    panel.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    panel.set_xlabel("step", fontsize=8, color=INK)
    panel.tick_params(labelsize=8)
    panel.legend(fontsize=7, frameon=False)
    panel.grid(color=FAINT, linewidth=0.6)
    _bare(panel)


def _bare(panel: Axes) -> None:
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
