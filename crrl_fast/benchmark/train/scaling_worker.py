"""What each process of a weak-scaling measurement does: `torchrun ... -m THIS SETTINGS FILE`, settings as JSON."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from crrl_fast.benchmark.train import ours
from crrl_fast.benchmark.train.clock import timed
from crrl_fast.benchmark.train.plan import WARM_UP
from crrl_fast.benchmark.train.workload import Workload, open_store, workload
from crrl_fast.config import Recipe
from crrl_fast.seeding import seed_everything
from crrl_fast.training.distributed import Ranks, joined_ranks


def seconds_per_frame(settings: dict[str, Any], ranks: Ranks) -> list[float]:
    """Train every stage for some steps with ``ranks``, and return the seconds a valid frame of each.

    Args:
        settings: ``data``, ``stages``, ``steps``, ``seed``, ``device`` and ``recipe``, whose batch size is a process's.
        ranks: all of them.
    """
    device, seed = torch.device(settings["device"]), settings["seed"]
    recipe = Recipe().with_overrides(settings["recipe"])
    recipe = recipe.with_overrides({"batch_size": recipe.batch_size * ranks.size})
    store = open_store(settings["data"], recipe, seed)
    load = workload(settings["data"], store, recipe, WARM_UP + settings["steps"], seed)
    clips = ours.resident_clips(store, load.index, ours.resident_frames(store, device))
    measured = range(WARM_UP, len(load.batches))
    found = []
    for stage in settings["stages"]:
        seed_everything(seed, stage)
        # The step only reads the teacher's features, so that any will do.
        features = torch.randn(len(clips), 2 * recipe.hidden_size) if stage == "inf" else None
        module = ours.stage_module(stage, load.width, recipe, features).to(device)
        training = ours.OurTraining(module, clips, recipe, ranks)
        _run(training, load, range(WARM_UP))
        ranks.wait()
        _, seconds = timed(partial(_run, training, load, measured), device)
        found.append(seconds / sum(load.ragged(batch).frames for batch in measured))
    return found


def _run(training: ours.OurTraining, load: Workload, batches: range) -> None:
    for batch in batches:
        training.step(load.batches[batch])


def main() -> None:
    """Measure, and write what the first rank found."""
    settings, file = json.loads(sys.argv[1]), Path(sys.argv[2])
    with joined_ranks(torch.device(settings["device"])) as ranks:
        found = seconds_per_frame(settings, ranks)
        if ranks.is_first:
            file.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
