"""Which bits of a training run depend on what, and what deterministic algorithms cost.

    python bench/determinism.py [--data demo] [--steps 10] [--rounds 5] [--device auto] [--json FILE]

Every stage is trained for a few steps, recipe `paper` from the same seed, as often as there are rounds in each setting:
with 1, 2, ... threads, and with and without deterministic algorithms. The settings take turns. Bits are compared by the
SHA-256 of all weights; where they differ, the largest difference is given, relative to the tensor's largest weight.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from crrl_fast.benchmark.train import ours
from crrl_fast.data.batches import ResidentClips, resident_split
from crrl_fast.data.catalog import open_data
from crrl_fast.determinism import deterministic_algorithms
from crrl_fast.device import resolve_device
from crrl_fast.files import write_json
from crrl_fast.recipes import get_recipe
from crrl_fast.seeding import seed_everything
from crrl_fast.versions import software_versions

STAGES = ("ser", "cml", "inf")


def main(
    data: str = "demo",
    steps: int = 10,
    rounds: int = 5,
    threads: Annotated[str, typer.Option(help="Thread counts to compare.")] = "1,2",
    device: str = "auto",
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Measure and print."""
    on = resolve_device(device)
    store, _ = open_data(data)
    recipe = get_recipe("paper").with_overrides({"max_frames": 30})
    clips, _ = resident_split(store.processed(recipe.steps()), None, on)
    counts = [int(count) for count in threads.split(",")] if on.type == "cpu" else [torch.get_num_threads()]
    settings = [(count, flag) for count in counts for flag in (False, True)]
    rows = []
    for stage in STAGES:
        weights: dict[tuple[int, bool], list[dict[str, Tensor]]] = {setting: [] for setting in settings}
        seconds: dict[tuple[int, bool], list[float]] = {setting: [] for setting in settings}
        for _ in range(max(2, rounds)):
            for count, flag in settings:
                torch.set_num_threads(count)
                with deterministic_algorithms(flag):
                    trained, spent = _train(stage, clips, steps)
                weights[count, flag].append(trained)
                seconds[count, flag].append(spent / steps)
        first = weights[settings[0]][0]
        for count, flag in settings:
            ratios = [a / b for a, b in zip(seconds[count, flag], seconds[count, False], strict=True)]
            rows.append(
                {
                    "stage": stage,
                    "threads": count,
                    "deterministic": flag,
                    "same_bits_every_time": len({_digest(run) for run in weights[count, flag]}) == 1,
                    "largest_difference_to_first_setting": _difference(weights[count, flag][0], first),
                    "milliseconds_per_step": 1e3 * statistics.median(seconds[count, flag]),
                    "time_over_without": [statistics.median(ratios), min(ratios), max(ratios)],
                }
            )
            print(rows[-1])
    if json_file:
        write_json(json_file, {"steps": steps, "device": on.type, "versions": software_versions(), "rows": rows})


def _train(stage: str, clips: ResidentClips, steps: int) -> tuple[dict[str, Tensor], float]:
    recipe = get_recipe("paper")
    generator = seed_everything(0, stage)
    features = torch.randn(len(clips), 2 * recipe.hidden_size) if stage == "inf" else None
    features = None if features is None else features.to(clips.device)
    module = ours.stage_module(stage, clips.width, recipe, features).to(clips.device)
    training = ours.OurTraining(module, clips, recipe)
    batches = torch.randperm(len(clips), generator=generator).split(recipe.batch_size)[:steps]
    started = time.perf_counter()
    for position in batches:
        training.step(position)
    weights = {name: value.cpu() for name, value in module.state_dict().items()}
    return weights, time.perf_counter() - started


def _digest(weights: dict[str, Tensor]) -> str:
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in weights.values())).hexdigest()


def _difference(weights: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    largest = [
        float((value - other[name]).abs().max() / value.abs().max().clamp(min=1e-30))
        for name, value in weights.items()
        if value.is_floating_point()
    ]
    return max(largest)


if __name__ == "__main__":
    typer.run(main)
