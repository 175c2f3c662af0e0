import math

import pytest
import torch

from crrl_fast.data.batches import ResidentClips
from crrl_fast.data.info import Split
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError, TrainingError
from crrl_fast.evaluation import FineTune, RunEvaluation, Tuning, evaluate, fine_tune
from crrl_fast.evaluation.features import FeatureSet
from crrl_fast.evaluation.linear import LinearProbe, linear_probe
from crrl_fast.models import ConcatEncoder, MotionEncoder
from tests.conftest import random_walks
from tests.evaluation.runs import make_run

QUICK = Tuning(epochs=6, batch_size=8, encoder_lr=0.1)


def separable_store(count=48, classes=3):
    """Return clips whose joints drift along the axis of their class."""
    walks = random_walks(count, longest=8)
    for i, walk in enumerate(walks):
        walk[:, :, i % classes] += 2.0
    return Store.from_arrays(
        walks,
        labels=[i % classes for i in range(count)],
        camera=[1 if i < 2 * count // 3 else 2 for i in range(count)],
        layout="kinect20",
        dataset="separable",
        splits={"xview": Split("camera", (1,))},
    )


def clips_of(store, device):
    frames = store.frames.to(device)
    return [ResidentClips(store, part, frames) for part in store.split()]


def small_encoder(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    return MotionEncoder(60, 8, 2, dropout)


def test_it_learns_what_is_separable_and_reports_the_last_epoch(device):
    store = separable_store()
    train, test = clips_of(store, device)
    tuned = fine_tune(small_encoder().to(device), train, test, 3, QUICK)
    assert tuned.outcome.accuracy == tuned.curve[-1] == 100
    assert len(tuned.curve) == len(tuned.losses) == 6
    assert tuned.losses[0] == pytest.approx(math.log(3), abs=0.5)
    assert tuned.losses[-1] < 0.5 * tuned.losses[0]
    torch.testing.assert_close(tuned.outcome.scores.sum(dim=1).cpu(), torch.ones(16, dtype=torch.float64))
    assert tuned.outcome.labels.tolist() == store.labels[32:].tolist()


@pytest.mark.parametrize(
    "settings", [{"precision": "bf16"}, {"length_buckets": 2}, {"schedule": "step"}, {"warmup": 2}]
)
def test_it_learns_with_other_settings(settings, cpu):
    train, test = clips_of(separable_store(), cpu)
    tuning = Tuning(epochs=10, batch_size=8, encoder_lr=0.1, **settings)
    assert fine_tune(small_encoder(), train, test, 3, tuning).outcome.accuracy > 90


def test_two_encoders_side_by_side_are_both_trained(cpu):
    train, test = clips_of(separable_store(), cpu)
    encoder = ConcatEncoder({"ser": small_encoder(0), "cml": small_encoder(1)})
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert fine_tune(encoder, train, test, 3, QUICK).outcome.accuracy == 100
    for name, value in encoder.state_dict().items():
        assert not torch.equal(value, before[name]), name


def test_an_encoder_of_rate_zero_keeps_every_bit_and_its_head_is_a_linear_probe(cpu):
    train, test = clips_of(separable_store(), cpu)
    encoder = small_encoder(dropout=0.5)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    tuning = Tuning(epochs=30, batch_size=8, lr=1.0, encoder_lr=0.0, clip_grad_norm=0.0, weight_decay=0.0)
    tuned = fine_tune(encoder, train, test, 3, tuning)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in encoder.parameters())
    probe = linear_probe(FeatureSet.extract(encoder, train, test, 3), LinearProbe(30, 1.0, 8))
    assert tuned.outcome.accuracy == pytest.approx(probe.accuracy, abs=100 / 16)
    assert tuned.losses[-1] < tuned.losses[0]


def test_the_encoder_learns_at_a_rate_of_its_own(cpu):
    train, test = clips_of(separable_store(), cpu)
    moved = []
    for rate in (1e-4, 1e-3):
        encoder = small_encoder()
        before = encoder.gru.state_dict()["weight_ih_l0"].clone()
        # One step: a step of SGD moves the weights by rate times gradient, whatever the head does afterwards.
        fine_tune(encoder, train, test, 3, Tuning(epochs=1, batch_size=64, lr=0.1, encoder_lr=rate, weight_decay=0))
        moved.append(float((encoder.gru.state_dict()["weight_ih_l0"] - before).norm()))
    assert moved[1] == pytest.approx(10 * moved[0], rel=0.05)


def test_a_step_is_that_of_pytorchs_sgd(cpu):
    train, test = clips_of(separable_store(), cpu)
    tuning = Tuning(epochs=2, batch_size=64, lr=0.2, encoder_lr=0.05, clip_grad_norm=0.3, weight_decay=0.01)
    tuned, ours = small_encoder(), small_encoder()
    curve = fine_tune(tuned, train, test, 3, tuning).losses

    from crrl_fast.seeding import seed_everything

    seed_everything(tuning.seed, "finetune")
    head = torch.nn.Linear(16, 3)
    groups = [{"params": head.parameters(), "lr": 0.2}, {"params": ours.parameters(), "lr": 0.05}]
    optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2)
    everything = [*head.parameters(), *ours.parameters()]
    batch = train.batch(torch.arange(len(train)))
    for loss_seen in curve:
        loss = torch.nn.functional.cross_entropy(head(ours(batch.coords, batch.lengths).feature), batch.labels)
        assert loss_seen == pytest.approx(loss.item(), rel=1e-4)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(everything, 0.3)
        optimizer.step()
        schedule.step()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(tuned.state_dict()[name], value, rtol=1e-3, atol=1e-5)


def test_it_is_reproducible(cpu):
    train, test = clips_of(separable_store(), cpu)
    first, again, other = (
        fine_tune(small_encoder(dropout=0.2), train, test, 3, Tuning(epochs=2, seed=seed)) for seed in (0, 0, 1)
    )
    assert first.losses == again.losses
    assert torch.equal(first.outcome.scores, again.outcome.scores)
    assert first.losses != other.losses


def test_steps_are_counted_and_the_last_epoch_alone_can_be_classified(cpu):
    train, test = clips_of(separable_store(), cpu)
    steps = []
    tuned = fine_tune(small_encoder(), train, test, 3, QUICK, every_epoch=False, on_step=steps.append)
    assert steps == [8] * 4 * 6
    assert len(tuned.curve) == 1
    assert tuned.curve == fine_tune(small_encoder(), train, test, 3, QUICK).curve[-1:]


def test_a_gpu_is_not_waited_for_within_an_epoch(cuda):
    train, test = clips_of(separable_store(), cuda)
    steps = []

    def on_step(clips):
        steps.append(clips)  # the first step may set things up, after the last one the loss is read back
        torch.cuda.set_sync_debug_mode("error" if len(steps) < 4 else "default")

    try:
        fine_tune(small_encoder().to(cuda), train, test, 3, Tuning(epochs=1, batch_size=8), on_step=on_step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(steps) == 4


def test_a_loss_that_is_not_finite_ends_it_with_the_settings_to_lower(cpu):
    store = separable_store()
    train, test = clips_of(store, cpu)
    store.frames[: int(store.offsets[5])] = math.nan
    with pytest.raises(TrainingError, match=r"loss is nan in epoch 1: lower lr \(now 0.1\), encoder_lr"):
        fine_tune(small_encoder(), train, test, 3, QUICK)


def factors(**settings):
    tuning = Tuning(**settings)
    return [tuning.factor(epoch) for epoch in range(1, tuning.epochs + 1)]


def test_cosine_falls_from_the_peak_to_almost_nothing():
    expected = [(1 + math.cos(math.pi * i / 4)) / 2 for i in range(4)]
    assert factors(epochs=4) == pytest.approx(expected)
    assert factors(epochs=6, warmup=2) == pytest.approx([1 / 3, 2 / 3, *expected])


def test_steps_fall_after_their_milestones():
    assert factors(epochs=8, schedule="step") == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    given = {"epochs": 5, "schedule": "step", "milestones": (1, 3), "decay": 0.5}
    assert factors(**given) == [1, 0.5, 0.5, 0.25, 0.25]
    assert factors(**given, warmup=1) == [0.5, 0.5, 0.5, 0.25, 0.25]


def test_more_steps_stretch_the_whole_training():
    tuning = Tuning(epochs=10, batch_size=8, milestones=(4, 8), warmup=1)
    assert tuning.of_at_least(20, clips=16) is tuning
    longer = tuning.of_at_least(100, clips=9)
    assert (longer.epochs, longer.milestones, longer.warmup) == (50, (20, 40), 5)
    assert Tuning(epochs=1, batch_size=8, schedule="step").of_at_least(7, clips=8).epochs == 7


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, "epochs must be greater than 0"),
        ({"batch_size": 0}, "batch_size must be greater"),
        ({"lr": 0.0}, "lr must be greater"),
        ({"lr": math.nan}, "lr must be greater"),
        ({"encoder_lr": -1.0}, "encoder_lr must be at least 0"),
        ({"encoder_lr": math.inf}, "encoder_lr must be at least 0"),
        ({"schedule": "linear"}, "schedule must be one of cosine, step, got 'linear'"),
        ({"milestones": (5, 3)}, "milestones must be rising"),
        ({"milestones": (0,)}, "milestones must be rising"),
        ({"decay": 0.0}, "decay must be in"),
        ({"warmup": 30}, r"warmup must be below epochs \(30\), got 30"),
        ({"momentum": 1.0}, "momentum must be in"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0"),
        ({"clip_grad_norm": -1.0}, "clip_grad_norm must be at least 0"),
        ({"precision": "fp16"}, "precision must be one of fp32, bf16"),
        ({"length_buckets": -1}, "length_buckets must be at least 0"),
    ],
)
def test_unusable_settings(setting, message):
    with pytest.raises(ConfigError, match=f"fine-tuning: {message}"):
        Tuning(**setting)


def test_the_protocol_starts_from_the_checkpoint_and_leaves_it_alone(tmp_path):
    path = tmp_path / "separable.safetensors"
    separable_store().save(path)
    evaluation = RunEvaluation.open(make_run(tmp_path / "run", path))
    checkpoint = (tmp_path / "run/cml.safetensors").read_bytes()
    counts = []

    def counting(what, total):
        from contextlib import nullcontext

        counts.append((what, total))
        return nullcontext(counts.append)

    evaluation.counting = counting
    record = evaluate(evaluation, FineTune(QUICK))
    assert counts[0] == ("finetune cml", 6 * 32)
    assert counts[1:] == list(range(8, 6 * 32 + 1, 8))
    alone = fine_tune(evaluation.load_encoder(), evaluation.clips.train, evaluation.clips.test, 3, QUICK)
    assert record["curve"] == list(alone.curve)
    assert record["loss_curve"] == list(alone.losses)
    assert record["accuracy"] == record["curve"][-1]
    assert record["encoder_lr"] == 0.1
    assert "last epoch, not the best" in record["protocol"]
    assert (tmp_path / "run/cml.safetensors").read_bytes() == checkpoint
    fused = evaluate([evaluation, evaluation], FineTune(QUICK), weights=[1.0, 0.0])
    assert fused["confusion"] == record["confusion"]
