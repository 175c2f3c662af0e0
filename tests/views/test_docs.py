"""What docs/views.md shows runs as it stands, and names every preset."""

import re
from pathlib import Path

import torch

from crrl_fast.views import PRESETS

PAGE = (Path(__file__).parents[2] / "docs" / "views.md").read_text()


def test_python_blocks_run():
    given = {"lengths": torch.tensor([5, 90]), "generator": torch.Generator().manual_seed(0)}
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(compile(block, "views.md", "exec"), given)
    assert given["params"].lengths.tolist() == [64, 64]


def test_every_preset_has_its_row():
    assert re.findall(r"^\| `(.*?)` \|", PAGE, flags=re.MULTILINE) == list(PRESETS)
