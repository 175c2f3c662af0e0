"""Line charts in the unit square."""

import re
from itertools import pairwise

import pytest

from crrl_fast.report.charts import SIDE, Series, line_chart

pytest.importorskip("matplotlib")


def points(path):
    return [tuple(map(int, point)) for point in re.findall(r"(\d+) (\d+)", path)]


def test_a_line_runs_from_the_first_epoch_to_the_last_within_round_ticks():
    chart = line_chart("loss", [Series("run", ((1, 4.1), (2, 3.0), (5, 0.4)), 0)])
    (line,) = chart.lines
    assert [x for x, _ in points(line.path)] == [0, SIDE // 4, SIDE]
    low, high = float(chart.up[0].text), float(chart.up[-1].text)
    assert low <= 0.4
    assert high >= 4.1
    assert [y for _, y in points(line.path)] == [round(SIDE * (high - v) / (high - low)) for v in (4.1, 3.0, 0.4)]
    assert (chart.up[0].place, chart.up[-1].place) == (1, 0)
    assert all(float(tick.text).is_integer() for tick in chart.across)
    assert "4.10 at epoch 1, 0.40 at epoch 5" in chart.description


def test_labels_at_the_ends_of_lines_stay_apart_and_in_order():
    curves = [Series(str(i), ((1, 1.0), (2, value)), i) for i, value in enumerate((0.5, 0.501, 0.499, 0.0, 1.0))]
    tops = [line.top for line in line_chart("loss", curves).lines]
    ranked = sorted(tops)
    assert all(b - a > 0.09 for a, b in pairwise(ranked))
    assert sorted(range(5), key=tops.__getitem__) == [4, 1, 0, 2, 3]
    assert max(tops) <= 1


@pytest.mark.parametrize("curve", [((3, 2.0),), ((1, 2.0), (2, 2.0))])
def test_one_point_and_one_value_can_be_drawn(curve):
    (line,) = line_chart("loss", [Series("run", curve, 0)]).lines
    assert all(0 <= x <= SIDE and 0 <= y <= SIDE for x, y in points(line.path))


def test_no_point_is_no_chart():
    assert line_chart("probe", [Series("run", (), 0)]) is None
