import io
import json
import math

import pytest
import torch
from rich.console import Console
from torch import nn

from crrl_fast.config import Recipe
from crrl_fast.data.batches import resident_split
from crrl_fast.errors import TrainingError
from crrl_fast.training.display import TrainingDisplay
from crrl_fast.training.log import MetricsLog
from crrl_fast.training.loop import StageLoop


class MeanPose(nn.Module):
    """Learns the mean of all coordinates; small enough to follow by hand."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(60))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.scale = scale

    def forward(self, batch):
        distance = (self.mean - batch.coords[:, 0]).square().sum(dim=1).mean()
        return {"loss": self.scale * distance, "distance": distance}


def train(store, recipe, module, seed=0):
    clips, _ = resident_split(store, None, torch.device("cpu"))
    records, steps = [], []
    generator = torch.Generator().manual_seed(seed)
    StageLoop("mean", module, clips, recipe, generator).run(on_step=steps.append, on_epoch=records.append)
    return clips, records, steps


def test_the_optimiser_is_sgd_with_schedule_decay_and_clipping(tiny_store):
    recipe = Recipe(
        epochs=4, batch_size=6, lr=0.3, weight_decay=0.01, lr_milestones=(1, 3), clip_grad_norm=0.5, precision="fp32"
    )
    module = MeanPose()
    clips, records, steps = train(tiny_store, recipe, module)
    assert steps == [6, 6, 4] * 4
    assert [record["lr"] for record in records] == pytest.approx([0.3, 0.15, 0.15, 0.075])

    generator = torch.Generator().manual_seed(0)
    mean, velocity, lr = torch.zeros(60), torch.zeros(60), 0.3
    for epoch in range(1, 5):
        total = 0.0
        for position, _ in clips.shuffled(6, generator):
            difference = mean - clips.batch(position).coords[:, 0]
            total += float(difference.square().sum())
            gradient = 2 * difference.mean(dim=0)
            gradient = gradient * min(1.0, 0.5 / (float(gradient.norm()) + 1e-6)) + 0.01 * mean
            velocity = 0.9 * velocity + gradient
            mean = mean - lr * velocity
        assert records[epoch - 1]["loss"] == pytest.approx(total / 16, rel=1e-5)
        assert records[epoch - 1]["distance"] == records[epoch - 1]["loss"]
        lr *= 0.5 if epoch in (1, 3) else 1
    torch.testing.assert_close(module.mean.detach(), mean, rtol=1e-5, atol=1e-6)
    assert module.frozen.item() == 1


def test_zero_clip_grad_norm_leaves_gradients_alone(tiny_store):
    recipe = Recipe(epochs=1, batch_size=16, lr=0.001, sgd_momentum=0.0, weight_decay=0.0, clip_grad_norm=0.0)
    module = MeanPose(scale=1000.0)
    clips, _, _ = train(tiny_store, recipe, module)
    everyone = clips.batch(torch.arange(16))
    torch.testing.assert_close(module.mean.detach(), 2 * everyone.coords[:, 0].mean(dim=0))


def test_records_say_what_users_watch(tiny_store):
    _, records, _ = train(tiny_store, Recipe(epochs=2, batch_size=8, lr=0.01), MeanPose())
    assert [record["epoch"] for record in records] == [1, 2]
    for record in records:
        assert record["stage"] == "mean"
        assert record["clips_per_second"] == pytest.approx(16 / record["seconds"])
        assert math.isfinite(record["loss"])
    assert records[1]["loss"] < records[0]["loss"]


def test_a_loss_that_is_not_finite_stops_the_stage(tiny_store):
    recipe = Recipe(epochs=50, batch_size=8, lr=1e3, clip_grad_norm=0.0)
    message = r"mean: the loss or its gradient is not finite in epoch \d+, step \d \(clips .*lower lr \(now 1000.0\)"
    with pytest.raises(TrainingError, match=message):
        train(tiny_store, recipe, MeanPose())


def test_metrics_log_writes_json_lines_and_events(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    records = [{"stage": "cml", "epoch": e, "loss": 1.0 / e, "lr": 0.1} for e in (1, 2)]
    with MetricsLog(tmp_path) as log:
        log.write(records[0])
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
        log.write(records[1])
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == records
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("cml/loss")] == [(1, 1.0), (2, 0.5)]


def test_the_terminal_shows_a_live_bar_with_loss_rate_and_time_left():
    printed = io.StringIO()
    console = Console(file=printed, force_terminal=True, width=160)
    with TrainingDisplay(console, epochs=2, clips=16) as display:
        display.start_stage("cml")
        display.step(16)
        record = {"stage": "cml", "epoch": 1, "loss": 2.5, "lr": 0.1, "seconds": 2.0, "clips_per_second": 8.0}
        display.epoch(record, epochs=2)
    for part in ("cml 1/2", " 50%", "loss 2.5000", "8 clips/s", "left"):
        assert part in printed.getvalue()
    assert "lr" not in printed.getvalue()
