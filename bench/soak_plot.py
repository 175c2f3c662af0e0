"""A long run as one figure: memory, descriptors and threads, and clips a second, epoch by epoch. Needs matplotlib."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from soak_record import SoakRecord

from crrl_fast.benchmark.plot import COLOURS, DPI, FAINT, INK, WIDTH, YARDSTICK, require_matplotlib
from crrl_fast.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 7.5
"""Inches."""


def plot(record: SoakRecord, path: Path) -> None:
    """Draw the record to a PNG file."""
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, layout="constrained")
    memory, counts, rates = figure.subplots(3, sharex=True, height_ratios=(3, 2, 3))
    samples = record.samples
    sizes = {"RSS": "rss", "USS": "uss", "allocated on the GPU": "cuda_allocated", "reserved there": "cuda_reserved"}
    _draw(memory, {name: [b / 2**20 for b in samples[key]] for name, key in sizes.items() if any(samples.get(key, ()))})
    _frame(memory, record, "memory after each epoch, MiB", named=True)
    _draw(counts, {"open files": samples["descriptors"], "threads": samples["threads"]})
    _frame(counts, record, "open files and threads")
    _draw(rates, {"clips a second, steps alone": samples["clips_per_second"]})
    # Its height says nothing here, only how it changes: it is drawn beside the rate of the clips.
    scale = max(samples["clips_per_second"]) / max(samples["gemm_flops"])
    scaled = [scale * flops for flops in samples["gemm_flops"]]
    rates.plot(_epochs(record), scaled, color=YARDSTICK, linewidth=0.8, label="torch.mm at the time, scaled")
    for number, stage in enumerate(record.stages):
        start = number * record.epochs + record.warm_up
        ends = [start + record.block * (block + 1) for block in range(len(stage.blocks.rates))]
        label = "" if number else "all, probes and checkpoints included"
        rates.plot(ends, stage.blocks.rates, color=COLOURS[1], linewidth=1, marker=".", label=label)
    _frame(rates, record, "throughput")
    rates.set_xlabel("epoch; grey: warm-up, not judged", fontsize=8, color=INK)
    figure.suptitle(f"{record.device_name}, {record.threads} threads, torch {record.versions['torch']}", fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _epochs(record: SoakRecord) -> range:
    return range(1, len(record.samples["rss"]) + 1)


def _draw(panel: Axes, series: dict[str, list[float]]) -> None:
    for (name, values), colour in zip(series.items(), itertools.cycle(COLOURS), strict=False):
        panel.plot(range(1, len(values) + 1), values, color=colour, linewidth=1, label=name)


def _frame(panel: Axes, record: SoakRecord, title: str, *, named: bool = False) -> None:
    panel.set_ylim(bottom=0)
    for number, stage in enumerate(record.stages):
        start = number * record.epochs
        panel.axvspan(start, start + record.warm_up, color=FAINT, linewidth=0)
        if named:
            panel.annotate(
                stage.stage,
                (start + record.epochs / 2, 1),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                fontsize=8,
                color=INK,
            )
    panel.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    panel.tick_params(labelsize=8)
    panel.legend(fontsize=7, frameon=False, loc="lower right")
    panel.grid(color=FAINT, linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
