import io
from dataclasses import replace

import pytest
from rich.console import Console

from crrl_fast.benchmark.train import markdown, render


def in_terminal(record) -> str:
    console = Console(width=150, file=io.StringIO(), record=True)
    console.print(render(record))
    return console.export_text()


def test_markdown_shows_speed_preparation_curves_and_growth(record):
    text = markdown(record)
    assert text.startswith("cpu: Some CPU, 2 threads, 10 rounds of 5 steps; crrl_fast 0.1.0, torch 2.13.0\n")
    assert "| **ucla, cml: 1,020 clips of 34 x 60, 0.25 GFLOP a clip** |  |  |  |  |" in text
    assert "| ours float32 | 250 (225 to 275) | 2.5x (2.25 to 2.75) | 75 % (67.5 to 82.5) | 5 MiB |" in text
    assert "| **ucla, whole of cml,inf** |  |  |  |  |" in text
    assert "| ours bf16 | 369 (332 to 406) | 4.1x (3.69 to 4.51) |  |  |" in text
    assert "| stock float32 | host arrays | 2.5 s | 400 MiB |" in text
    assert "| ours float32 | teacher's features | 3 s | 100 MiB |" in text
    assert "| 3 | 4.0000 to 1.0000 | 5.0e-07 at step 2 | 8.0e-06 | as rounding grows |" in text
    assert "| 10,000 | 60 (54 to 66) | 1x (0.9 to 1.1) | 0.1 ms an epoch | 315 MiB | 9 MiB |" in text
    assert sum(line.startswith("| --- |") for line in text.splitlines()) == 4


@pytest.mark.parametrize("show", [markdown, in_terminal])
def test_both_say_how_figures_were_formed(record, show):
    text = " ".join(show(record).split())
    for remark in (
        "above 100 % is possible",
        "torch.mm, GFLOP/s: float32 100 (90 to 110), bfloat16 300 (270 to 330)",
        "preparation once, plus epochs * training clips / clips per second of each stage",
        "60 epochs",
        "dropout is 0 in both, since their masks come from different generators",
        "scaled by frames to all training clips",
    ):
        assert remark in text


def test_a_terminal_shows_the_same_rows(record):
    text = in_terminal(record)
    assert text.count("┏") == 4
    assert "369 (332 to 406)" in text
    assert "as rounding grows" in text


def test_a_disagreement_shows_no_speed(record):
    wrong = replace(record.curves[0], ours=(4.0, 2.1, 1.0))
    text = markdown(replace(record, curves=(wrong,), data=(), growth=(), gemm_flops={}))
    assert "| differs from step 2 |" in text
    assert "over stock" not in text
    assert "torch.mm" not in text
