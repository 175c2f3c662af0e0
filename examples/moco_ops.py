"""MoCo with an encoder and a training loop of one's own: only the ops and the queue come from crrl-fast.

    python examples/moco_ops.py --epochs 10

Two views of a clip are a query and its key (`skeleton_views`), a GRU over coordinates and motion encodes them
(`RaggedGRU`, `motion_diff`), and the keys of past batches are the negatives (`MomentumQueue`, `queue_info_nce`).
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crrl_fast.data.catalog import open_data
from crrl_fast.models import MomentumQueue, RaggedGRU, frozen_copy, momentum_update
from crrl_fast.ops import motion_diff, queue_info_nce, sample_view_params, skeleton_views


class MyEncoder(nn.Module):
    """A GRU over coordinates and motion, and a projection; nothing in it knows of crrl-fast's trainer."""

    def __init__(self, width: int, hidden: int = 128, size: int = 64) -> None:
        super().__init__()
        self.gru = RaggedGRU(2 * width, hidden, bidirectional=True)
        self.project = nn.Linear(2 * hidden, size)

    def features(self, coords: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean output (B, 2 * hidden) over the valid frames of padded clips (B, T, D)."""
        motion = 10 * motion_diff(coords, lengths)  # steps between frames are small beside coordinates
        features: Tensor = self.gru(torch.cat([coords, motion], dim=2), lengths, return_outputs=False).mean
        return features

    def forward(self, coords: Tensor, lengths: Tensor) -> Tensor:
        """Return the projections (B, size)."""
        projection: Tensor = self.project(self.features(coords, lengths))
        return projection


def main() -> None:
    """Train, and score the nearest neighbours of the test clips before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.manual_seed(0)

    store, _ = open_data("demo")
    frames, offsets = store.frames.to(options.device), store.offsets.to(options.device)  # all clips end to end
    train, test = (part.to(options.device) for part in store.split("xsub"))

    def views(preset: str, index: Tensor) -> tuple[Tensor, Tensor]:
        params = sample_view_params(preset, offsets.diff()[index], store.layout)
        view = skeleton_views(frames, offsets, index, params)
        return view.coords, view.lengths

    @torch.no_grad()
    def score() -> float:
        """Return the share of test clips whose most similar training clip has their label."""
        gallery, probes = (F.normalize(query_encoder.features(*views("none", part)), dim=1) for part in (train, test))
        labels = store.labels.to(options.device)
        return float((labels[train][(probes @ gallery.T).argmax(dim=1)] == labels[test]).float().mean())

    query_encoder = MyEncoder(frames.shape[1]).to(options.device)
    key_encoder = frozen_copy(query_encoder)
    queue = MomentumQueue(512, 64, start="empty").to(options.device)
    optimizer = torch.optim.Adam(query_encoder.parameters(), lr=1e-3)
    print(f"untrained: 1-nn {score():.1%}")
    for epoch in range(1, options.epochs + 1):
        results = []
        for index in train[torch.randperm(len(train), device=options.device)].split(64):
            query = query_encoder(*views("aimclr", index))
            with torch.no_grad():
                momentum_update(key_encoder, query_encoder, 0.99)
                key = F.normalize(key_encoder(*views("aimclr", index)), dim=1)
            loss, accuracy = queue_info_nce(
                query, key, queue.keys, 0.1, normalize=True, return_accuracy=True, filled=queue.filled
            )
            queue.enqueue(key)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            results.append(torch.stack([loss.detach(), accuracy[0]]))
        loss, found = torch.stack(results).mean(dim=0).tolist()
        print(f"epoch {epoch}: loss {loss:.3f}, queries that find their key {found:.1%}")
    print(f"trained: 1-nn {score():.1%}")


if __name__ == "__main__":
    main()
