"""The method in stock PyTorch, as the authors' release runs it, trained to the end: what accuracy it reaches, and when.

    python bench/stock.py STORE [--stages ser,cml,inf] [--epochs 60] [--seed 0] [--json FILE]

`crrl-fast bench train` measures the speed of the same code; of the trainer only the store, the recipe's numbers and the
probes are shared. Recipe `paper`, with its gradient clipping.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from crrl_fast.benchmark.train import stock
from crrl_fast.benchmark.train.host import HostClips, shuffled_batches
from crrl_fast.data.catalog import open_data
from crrl_fast.data.store import Store
from crrl_fast.evaluation.features import FeatureSet
from crrl_fast.evaluation.knn import nearest_neighbour_accuracy
from crrl_fast.evaluation.linear import LinearProbe, linear_probe
from crrl_fast.files import write_json
from crrl_fast.recipes import get_recipe
from crrl_fast.versions import software_versions

RECIPE = get_recipe("paper")


def main(
    store: str,
    stages: Annotated[str, typer.Option()] = ",".join(stock.STAGES),
    epochs: Annotated[int, typer.Option()] = RECIPE.epochs,
    seed: Annotated[int, typer.Option()] = 0,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Train the stages one after another and print their accuracy and seconds per epoch."""
    clips = open_data(store)[0].processed(RECIPE.preprocessing())
    train_index, _ = clips.split()
    data = HostClips(clips, train_index)
    results = {}
    encoders: dict[str, stock.Encoder] = {}
    for stage in stages.split(","):
        torch.manual_seed(seed)
        teacher = [encoders["cml"]] if stage == "inf" else []
        module = stock.STAGES[stage](clips.frames.shape[1], RECIPE, *teacher)
        seconds = train(module, data, epochs)
        encoder = module.get_submodule("encoder")
        assert isinstance(encoder, stock.Encoder)
        encoders[stage] = encoder
        scores = results[stage] = {**evaluate(encoder, clips), "seconds_per_epoch": seconds}
        typer.echo(
            f"{stage}: linear {scores['linear']:.1f}, 1-NN {scores['knn']:.1f}, "
            f"{statistics.median(seconds):.1f} s an epoch (median)"
        )
    if json_file:
        write_json(
            json_file,
            {
                "what": "the method in stock PyTorch",
                "dataset": clips.info.dataset,
                "seed": seed,
                "threads": torch.get_num_threads(),
                "versions": software_versions(),
                "stages": results,
            },
        )


def train(module: torch.nn.Module, data: HostClips, epochs: int) -> list[float]:
    """Train and return the seconds of each epoch."""
    training = stock.StockTraining(module, RECIPE)
    schedule = torch.optim.lr_scheduler.MultiStepLR(training.optimizer, list(RECIPE.lr_milestones), RECIPE.lr_decay)
    loader = shuffled_batches(data, RECIPE.batch_size, torch.device("cpu"))
    seconds = []
    for epoch in range(1, epochs + 1):
        began = time.perf_counter()
        loss = statistics.mean(training.step(batch)["loss"] for batch in loader)
        schedule.step()
        seconds.append(time.perf_counter() - began)
        typer.echo(f"epoch {epoch}/{epochs}  loss {loss:.4f}  {seconds[-1]:.1f} s")
    return seconds


@torch.no_grad()
def evaluate(encoder: stock.Encoder, clips: Store) -> dict[str, float | list[float]]:
    """Return the accuracies of the frozen encoder."""
    encoder.eval()
    features = [
        torch.cat([encoder.feature(clips.clip(i).flatten(1)[None], [int(clips.lengths[i])]) for i in part.tolist()])
        for part in clips.split()
    ]
    train_labels, test_labels = (clips.labels[part] for part in clips.split())
    found = FeatureSet(features[0], train_labels, features[1], test_labels, clips.num_classes)
    with torch.enable_grad():
        return {"linear": linear_probe(found, LinearProbe()).accuracy, "knn": nearest_neighbour_accuracy(found)}


if __name__ == "__main__":
    typer.run(main)
