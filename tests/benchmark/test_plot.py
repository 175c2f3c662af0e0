import struct
import sys

import pytest

from crrl_fast.benchmark import plot
from crrl_fast.benchmark.plot import COLOURS, YARDSTICK, _colours
from crrl_fast.errors import CrrlError


def test_a_png_of_1200_pixels(record, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "new" / "ops.png"
    plot(record, path)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", content[16:24])
    assert width == 1200
    assert height > 300
    assert list(path.parent.iterdir()) == [path]


def test_a_contender_has_one_colour_everywhere_and_yardsticks_share_theirs(record):
    assert _colours(record) == {"PyTorch eager": COLOURS[0], "copy of the bytes": YARDSTICK}


def test_without_matplotlib_one_line_says_what_to_do(record, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(CrrlError, match="pip install matplotlib"):
        plot(record, tmp_path / "ops.png")
