import copy
import math

import pytest
import torch

from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.errors import TrainingError
from crrl_fast.training.graphs import MAX_LENGTHS, GraphedStep, GraphRecorder
from crrl_fast.training.loop import StageLoop
from crrl_fast.training.request import STAGES
from crrl_fast.training.stages import ContrastiveMotionLearner, InformationFuser, JointLearner, SequenceReconstructor
from crrl_fast.training.step import TrainingStep

RECIPE = Recipe(epochs=4, batch_size=5, lr=0.1, lr_milestones=(2,), hidden_size=8, queue_size=9, dropout=0.2)


class HostRecorder:
    """What GraphRecorder does, where there is no GPU: a capture is the work itself."""

    def __init__(self):
        self.warm_ups = self.captures = self.replays = 0

    def warm_up(self, work):
        self.warm_ups += 1
        work()

    def capture(self, work):
        self.captures += 1

        def replay():
            self.replays += 1
            work()

        return replay


def stage_module(name, clips, recipe=RECIPE):
    torch.manual_seed(0)
    if name == "ser":
        module = SequenceReconstructor(clips.width, recipe)
    elif name == "cml":
        module = ContrastiveMotionLearner(clips.width, recipe)
    elif name == "joint":
        module = JointLearner(clips.width, recipe)
    else:
        module = InformationFuser(clips.width, recipe, torch.randn(len(clips), 2 * recipe.hidden_size))
    return module.to(clips.device)


@pytest.mark.parametrize("name", STAGES)
def test_steps_by_shape_train_like_steps_as_they_come(tiny_store, name):
    """Without a GPU: shapes are padded, told apart and replayed as on one, and losses and weights stay the same."""
    recipe = RECIPE.with_overrides({"dropout": 0.0})
    clips = ResidentClips(tiny_store, torch.arange(24), tiny_store.frames.double())
    plain = stage_module(name, clips, recipe).double()
    shaped = copy.deepcopy(plain)
    recorder = HostRecorder()
    eager = TrainingStep(plain, clips, recipe)
    step = TrainingStep(shaped, clips, recipe)
    graphed = GraphedStep(step, clips.longest, recorder)
    shapes = set()
    for epoch in range(3):
        eager.begin_epoch(0.1 / (epoch + 1))
        step.begin_epoch(0.1 / (epoch + 1))
        for position, frames in clips.shuffled(5, torch.Generator().manual_seed(epoch), buckets=2):
            eager(position, frames)
            graphed(position, frames)
            shapes.add((len(position), graphed.padded(frames)))
        want, have = eager.losses(), step.losses()
        assert want.keys() == have.keys()
        for part, values in want.items():
            assert len(values) == 5
            torch.testing.assert_close(have[part], values, rtol=1e-9, atol=1e-12)
    for tensor, other in zip(plain.state_dict().values(), shaped.state_dict().values(), strict=True):
        torch.testing.assert_close(other, tensor, rtol=1e-9, atol=1e-12)
    assert {size for size, _ in shapes} == {4, 5}
    assert recorder.warm_ups == len(shapes)
    assert 2 <= recorder.captures <= len(shapes)
    assert recorder.warm_ups + recorder.replays == 15


@pytest.mark.parametrize("longest", [1, 7, 8, 60, 128, 129, 300, 5000])
def test_frames_are_rounded_up_to_few_lengths(longest):
    graphed = GraphedStep(None, longest, None)
    padded = [graphed.padded(frames) for frames in range(1, longest + 1)]
    assert all(frames <= into <= longest for frames, into in enumerate(padded, start=1))
    assert padded == sorted(padded)
    assert len(set(padded)) == min(MAX_LENGTHS, math.ceil(longest / 8)) or longest > 8 * MAX_LENGTHS
    assert len(set(padded)) <= MAX_LENGTHS
    if longest <= 8 * MAX_LENGTHS:
        assert all(into - frames < 8 for frames, into in enumerate(padded, start=1))


def test_without_a_gpu_nothing_is_captured(tiny_store, monkeypatch):
    monkeypatch.setattr("crrl_fast.training.graphs.GraphedStep", None)
    clips = ResidentClips(tiny_store, torch.arange(24), tiny_store.frames)
    records = train(clips, "ser", RECIPE)
    assert RECIPE.cuda_graphs
    assert len(records) == 4


def train(clips, name, recipe, on_step=lambda _: None, on_epoch=lambda _: None):
    module, records = stage_module(name, clips, recipe), []

    def keep(record):
        records.append(record)
        on_epoch(record)

    torch.manual_seed(1)
    StageLoop(name, module, clips, recipe, torch.Generator().manual_seed(2)).run(on_step=on_step, on_epoch=keep)
    return records


ADAMW = {"optimizer": "adamw", "lr": 0.01, "lr_schedule": "cosine", "warmup": 0.2}
DECODER = {"decoder_size": 9, "decoder_layers": 1, "decode_from": "mean", "velocity_weight": 2.0}
CONTRAST = {"views": "crrl", "symmetric": True, "within_stream": 1.0, "velocity_scale": 10.0, "queue_start": "empty"}


def on_gpu(store, device):
    return ResidentClips(store, torch.arange(24), store.frames.to(device))


@pytest.mark.filterwarnings("error:.*capturable")
@pytest.mark.parametrize("levers", [{}, ADAMW, CONTRAST, DECODER], ids=["sgd", "adamw", "contrast", "decoder"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("name", STAGES)
def test_graphs_train_like_single_launches(tiny_store, cuda, monkeypatch, name, dropout, levers):
    clips = on_gpu(tiny_store, cuda)
    recipe = RECIPE.with_overrides({"dropout": dropout, "length_buckets": 2, "epochs": 6, **levers})
    graphed = train(clips, name, recipe)
    if dropout:  # padded alike, because which units dropout hits depends on the padded length
        monkeypatch.setattr("crrl_fast.training.graphs.GraphRecorder", HostRecorder)
        single = train(clips, name, recipe)
    else:
        single = train(clips, name, recipe.with_overrides({"cuda_graphs": False}))
    parts = [part for part in single[0] if part not in ("stage", "seconds", "clips_per_second")]
    assert {"epoch", "loss", "lr"} <= set(parts)
    for have, want in zip(graphed, single, strict=True):
        for part in parts:
            assert have[part] == pytest.approx(want[part], rel=1e-3), (have["epoch"], part)
    assert single[0]["loss"] != single[-1]["loss"]


@pytest.mark.parametrize("levers", [{}, ADAMW, CONTRAST, DECODER], ids=["sgd", "adamw", "contrast", "decoder"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("name", STAGES)
def test_the_loop_never_waits_for_the_gpu(tiny_store, cuda, name, graphs, precision, levers):
    """From the end of an epoch to the last step of the next, shuffling included, any synchronisation raises."""
    clips = on_gpu(tiny_store, cuda)
    recipe = RECIPE.with_overrides({"cuda_graphs": graphs, "precision": precision, **levers})
    steps = math.ceil(len(clips) / recipe.batch_size)
    taken = []

    def on_step(size):
        taken.append(size)
        if len(taken) % steps == 0:
            torch.cuda.set_sync_debug_mode("default")

    def on_epoch(_):
        torch.cuda.set_sync_debug_mode("error")

    try:
        records = train(clips, name, recipe, on_step, on_epoch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(taken) == recipe.epochs * steps
    assert all(math.isfinite(record["loss"]) for record in records)


def test_a_replay_sees_the_learning_rate_and_the_clips(tiny_store, cuda):
    clips = on_gpu(tiny_store, cuda)
    recipe = RECIPE.with_overrides({"sgd_momentum": 0.0, "weight_decay": 0.0, "dropout": 0.0})
    module = stage_module("ser", clips, recipe)
    step = TrainingStep(module, clips, recipe)
    graphed = GraphedStep(step, clips.longest, GraphRecorder())
    first, second = torch.arange(5, device=cuda), torch.arange(5, 10, device=cuda)
    step.begin_epoch(0.1)
    for _ in range(3):  # as it is, captured, replayed
        graphed(first, clips.longest)
    weights = copy.deepcopy(module.state_dict())
    step.begin_epoch(0.0)
    for position in (first, second, first):
        graphed(position, clips.longest)
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, weights[key]), key
    losses = step.losses()["loss"][:3]
    with torch.no_grad():
        expected = [float(module(clips.batch(position))["loss"]) for position in (first, second, first)]
    assert losses.tolist() == pytest.approx(expected, rel=1e-4)
    assert expected[0] != pytest.approx(expected[1], rel=1e-3)
    step.begin_epoch(0.1)
    graphed(first, clips.longest)
    assert not torch.equal(module.state_dict()["encoder.gru.weight_hh_l0"], weights["encoder.gru.weight_hh_l0"])


def test_a_step_that_reads_back_is_refused_with_the_way_out(cuda):
    x = torch.ones(3, device=cuda)
    with pytest.raises(TrainingError, match="does not fit into a CUDA graph.*--set cuda_graphs=false"):
        GraphRecorder().capture(lambda: x.sum().item())
