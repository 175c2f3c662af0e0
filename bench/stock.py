"""The method in stock PyTorch, as the authors' release runs it: the baseline that crrl-fast is compared with.

    python bench/stock.py STORE [--stages ser,cml,inf] [--epochs 60] [--seed 0] [--json FILE]

Host arrays of the clips, their reversal and their velocity; a DataLoader; packed sequences; one decoder call a
direction; the teacher run in every step; losses read back in every step. Recipe `paper`, with its gradient clipping.
It shares no code with the trainer, only the store, the recipe's numbers and the probes.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.data import DataLoader, TensorDataset

from crrl_fast.data.catalog import open_data
from crrl_fast.data.store import Store
from crrl_fast.evaluation.features import FeatureSet
from crrl_fast.evaluation.knn import nearest_neighbour_accuracy
from crrl_fast.evaluation.linear import LinearProbe, linear_probe
from crrl_fast.files import write_json
from crrl_fast.recipes import get_recipe
from crrl_fast.versions import software_versions

RECIPE = get_recipe("paper")
CODE = 2 * RECIPE.hidden_size


class Encoder(nn.Module):
    """Bidirectional GRU over packed clips."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(
            width, RECIPE.hidden_size, RECIPE.layers, batch_first=True, bidirectional=True, dropout=RECIPE.dropout
        )

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the outputs (B, T, 2 * hidden), zero in the padding."""
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=x.shape[1])[0]

    def feature(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean over valid frames."""
        outputs: Tensor = self(x, lengths)
        return outputs.sum(dim=1) / lengths[:, None]


def mlp() -> nn.Sequential:
    """Return the release's MLP."""
    return nn.Sequential(nn.Linear(CODE, CODE), nn.ReLU(), nn.Linear(CODE, CODE))


class Reconstructor(nn.Module):
    """Encoder and decoder, and the MLP that distillation adds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = Encoder(width)
        self.decoder = nn.GRU(CODE, width, RECIPE.layers, batch_first=True)
        self.mlp = mlp()

    def losses(self, x: Tensor, reverse: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstruction loss and the clip feature."""
        outputs = self.encoder(x, lengths)
        last = outputs[torch.arange(len(x)), lengths - 1]
        valid = (torch.arange(x.shape[1]) < lengths[:, None]).float()
        loss = torch.zeros(())
        for vector, target in ((outputs[:, 0], x), (last, reverse)):
            decoded, _ = self.decoder(vector[:, None].repeat(1, x.shape[1], 1))
            loss = loss + ((((decoded - target) ** 2).sum(dim=2) * valid).sum(dim=1) / lengths).mean()
        return loss, outputs.sum(dim=1) / lengths[:, None]


class Contrast(nn.Module):
    """MoCo as published, with the velocity as the key's view."""

    queue: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder, self.mlp = Encoder(width), mlp()
        self.key_encoder, self.key_mlp = copy.deepcopy(self.encoder), mlp()
        self.register_buffer("queue", F.normalize(torch.randn(RECIPE.queue_size, CODE), dim=1))
        self.pointer = 0

    def loss(self, x: Tensor, velocity: Tensor, lengths: Tensor) -> Tensor:
        """Return InfoNCE and enqueue the keys."""
        query = F.normalize(self.mlp(self.encoder.feature(x, lengths)), dim=1)
        with torch.no_grad():
            for k, q in zip(self.key_encoder.parameters(), self.encoder.parameters(), strict=True):
                k.data = k.data * RECIPE.momentum + q.data * (1 - RECIPE.momentum)
            key = F.normalize(self.key_mlp(self.key_encoder.feature(velocity, lengths)), dim=1)
        positive = torch.einsum("nc,nc->n", [query, key])[:, None]
        negative = torch.einsum("nc,kc->nk", [query, self.queue.clone()])
        logits = torch.cat([positive, negative], dim=1) / RECIPE.temperature
        for row in key:
            self.queue[self.pointer] = row
            self.pointer = (self.pointer + 1) % RECIPE.queue_size
        return F.cross_entropy(logits, torch.zeros(len(x), dtype=torch.int64))


def host_arrays(store: Store, index: Tensor) -> TensorDataset:
    """Return x, x reversed, velocity, lengths and labels, padded to the longest clip of all."""
    lengths = store.lengths[index]
    x = torch.zeros(len(index), int(lengths.max()), store.frames.shape[1])
    reverse, velocity = torch.zeros_like(x), torch.zeros_like(x)
    for row, i in enumerate(index.tolist()):
        clip = store.clip(i).flatten(1)
        x[row, : len(clip)], reverse[row, : len(clip)] = clip, clip.flip(0)
        velocity[row, : len(clip) - 1] = clip[1:] - clip[:-1]
    return TensorDataset(x, reverse, velocity, lengths, store.labels[index])


def train(parameters: list[nn.Parameter], data: TensorDataset, epochs: int, step: Callable[..., Tensor]) -> list[float]:
    """Train and return the seconds of each epoch."""
    optimizer = torch.optim.SGD(
        parameters, lr=RECIPE.lr, momentum=RECIPE.sgd_momentum, weight_decay=RECIPE.weight_decay
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(RECIPE.lr_milestones), RECIPE.lr_decay)
    seconds = []
    for epoch in range(1, epochs + 1):
        began, total = time.perf_counter(), 0.0
        for batch in DataLoader(data, RECIPE.batch_size, shuffle=True):
            loss = step(*batch)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, RECIPE.clip_grad_norm)
            optimizer.step()
            total += loss.item() * len(batch[0])
        schedule.step()
        seconds.append(time.perf_counter() - began)
        typer.echo(f"epoch {epoch}/{epochs}  loss {total / len(data):.4f}  {seconds[-1]:.1f} s")
    return seconds


def evaluate(encoder: Encoder, train_data: TensorDataset, test_data: TensorDataset, classes: int) -> dict[str, float]:
    """Return the accuracies of the frozen encoder."""
    encoder.eval()
    with torch.no_grad():
        features = [
            torch.cat([encoder.feature(x, n) for x, _, _, n, _ in DataLoader(d, 256)]) for d in (train_data, test_data)
        ]
    labels = [d.tensors[-1] for d in (train_data, test_data)]
    found = FeatureSet(features[0], labels[0], features[1], labels[1], classes)
    return {"linear": linear_probe(found, LinearProbe()).accuracy, "knn": nearest_neighbour_accuracy(found)}


def main(
    store: str,
    stages: Annotated[str, typer.Option()] = "ser,cml,inf",
    epochs: Annotated[int, typer.Option()] = RECIPE.epochs,
    seed: Annotated[int, typer.Option()] = 0,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Train the stages one after another and print their accuracy and seconds per epoch."""
    opened, _ = open_data(store)
    opened = opened.processed(RECIPE.steps())
    train_data, test_data = (host_arrays(opened, index) for index in opened.split())
    width, results = opened.frames.shape[1], {}
    teacher: Encoder | None = None
    for stage in stages.split(","):
        torch.manual_seed(seed)
        if stage == "cml":
            contrast = Contrast(width)
            trained = [*contrast.encoder.parameters(), *contrast.mlp.parameters()]
            seconds = train(trained, train_data, epochs, lambda x, _r, s, n, _y, model=contrast: model.loss(x, s, n))
            encoder = teacher = contrast.encoder
        else:
            model = Reconstructor(width)
            step = distill(model, teacher) if stage == "inf" and teacher else reconstruct(model)
            seconds = train(list(model.parameters()), train_data, epochs, step)
            encoder = model.encoder
        results[stage] = {
            **evaluate(encoder, train_data, test_data, opened.num_classes),
            "seconds_per_epoch": seconds,
        }
        scores = results[stage]
        typer.echo(
            f"{stage}: linear {scores['linear']:.1f}, 1-NN {scores['knn']:.1f}, "
            f"{statistics.median(seconds):.1f} s an epoch (median)"
        )
    if json_file:
        write_json(
            json_file,
            {
                "what": "the method in stock PyTorch",
                "dataset": opened.info.dataset,
                "seed": seed,
                "threads": torch.get_num_threads(),
                "versions": software_versions(),
                "stages": results,
            },
        )


def reconstruct(model: Reconstructor) -> Callable[..., Tensor]:
    """Return the step of SER."""
    return lambda x, reverse, _s, lengths, _y: model.losses(x, reverse, lengths)[0]


def distill(model: Reconstructor, teacher: Encoder) -> Callable[..., Tensor]:
    """Return the step of INF."""
    teacher.eval()

    def step(x: Tensor, reverse: Tensor, _velocity: Tensor, lengths: Tensor, _labels: Tensor) -> Tensor:
        loss, feature = model.losses(x, reverse, lengths)
        with torch.no_grad():
            target = teacher.feature(x, lengths)
        distance: Tensor = ((model.mlp(feature) - target) ** 2).sum(dim=1).mean()
        return loss + RECIPE.distill_weight * distance

    return step


if __name__ == "__main__":
    typer.run(main)
