"""Line charts as shapes in a unit square: the page stretches them to any width and sets their texts at one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from crrl_fast.report.metrics import Curve

# Side of the square in which shapes are drawn; whole numbers of it keep the page small.
SIDE = 1000
# How far labels at the ends of lines stay apart, as a share of the chart's height.
_LABEL_STEP = 0.095
_MARKED = 20  # points of a line, up to which each of them gets a dot


@dataclass(frozen=True)
class Series:
    """A line to draw.

    Attributes:
        name: what it is of.
        curve: (epoch, value), in the order of epochs.
        tone: number of its colour.
        faint: whether it is drawn thin, beside a line that matters more.
    """

    name: str
    curve: Curve
    tone: int
    faint: bool = False


@dataclass(frozen=True)
class Line:
    """A drawn series: an SVG path, dots as a path of points, and its label at ``top`` (a share of the height)."""

    series: Series
    path: str
    dots: str
    value: str
    top: float


@dataclass(frozen=True)
class Tick:
    """A tick: where it is, as a share of the axis from the left or the top, and what it says."""

    place: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        title: what it shows.
        unit: of its values, as it stands behind the title; may be empty.
        lines: in drawing order.
        across: ticks of the epochs.
        up: ticks of the values.
        description: what is seen, for readers who do not see it.
    """

    title: str
    unit: str
    lines: tuple[Line, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    description: str


def line_chart(title: str, series: Sequence[Series], *, unit: str = "", decimals: int = 2) -> Chart | None:
    """Draw series over their epochs; None where none of them has a point."""
    series = [one for one in series if one.curve]
    if not series:
        return None
    epochs = [epoch for one in series for epoch, _ in one.curve]
    values = [value for one in series for _, value in one.curve]
    ups = _ticks(min(values), max(values), whole=False)
    low, high = ups[0], ups[-1]
    first, last = min(epochs), max(epochs)

    def x(epoch: float) -> float:
        return (epoch - first) / (last - first) if last > first else 0.5

    def y(value: float) -> float:
        return (high - value) / (high - low)

    tops = _apart([y(one.curve[-1][1]) for one in series])
    lines = []
    for one, top in zip(series, tops, strict=True):
        points = [f"{SIDE * x(epoch):.0f} {SIDE * y(value):.0f}" for epoch, value in one.curve]
        dots = "".join(f"M{point}h0" for point in points) if len(points) <= _MARKED else ""
        lines.append(Line(one, "M" + "L".join(points), dots, f"{one.curve[-1][1]:.{decimals}f}", top))
    return Chart(
        title=title,
        unit=unit,
        lines=tuple(lines),
        across=tuple(Tick(x(tick), f"{tick:g}") for tick in _ticks(first, last, whole=True) if first <= tick <= last),
        up=tuple(Tick(y(tick), f"{tick:.10g}") for tick in ups),
        description=f"{title}. "
        + " ".join(
            f"{one.name}: {one.curve[0][1]:.{decimals}f} at epoch {one.curve[0][0]}, "
            f"{one.curve[-1][1]:.{decimals}f} at epoch {one.curve[-1][0]}."
            for one in series
        ),
    )


def _ticks(low: float, high: float, *, whole: bool) -> list[float]:
    """Return round numbers from ``low`` or below to ``high`` or above."""
    from matplotlib.ticker import MaxNLocator

    if low == high and not whole:
        low, high = low - 0.5, high + 0.5
    locator = MaxNLocator(nbins=5 if whole else 4, integer=whole, steps=[1, 2, 2.5, 5, 10], min_n_ticks=2)
    return [round(float(tick), 10) for tick in locator.tick_values(low, high)]


def _apart(places: Sequence[float]) -> list[float]:
    """Return ``places`` moved apart to at least ``_LABEL_STEP``, in the same order, within 0 and 1 where they fit."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    for before, i in pairwise(order):
        moved[i] = max(moved[i], moved[before] + _LABEL_STEP)
    limit = 1.0
    for i in reversed(order):
        moved[i] = min(moved[i], limit)
        limit = moved[i] - _LABEL_STEP
    return moved
