import struct
import sys
from dataclasses import replace

import pytest

from crrl_fast.benchmark.train import plot
from crrl_fast.errors import CrrlError


@pytest.mark.parametrize("left_out", [{}, {"curves": ()}, {"data": ()}])
def test_a_png_of_1200_pixels(record, tmp_path, left_out):
    pytest.importorskip("matplotlib")
    path = tmp_path / "new" / "train.png"
    plot(replace(record, **left_out), path)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert content.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", content[16:24])
    assert width == 1200
    assert height > 250
    assert list(path.parent.iterdir()) == [path]


def test_without_matplotlib_one_line_says_what_to_do(record, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(CrrlError, match="pip install matplotlib"):
        plot(record, tmp_path / "train.png")
