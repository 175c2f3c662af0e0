"""What stage ``cml`` contrasts with what, against a plain statement in float64, and what it is on by default."""

import copy

import pytest
import torch
import torch.nn.functional as F

import crrl_fast
from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.errors import ConfigError
from crrl_fast.ops import queue_info_nce
from crrl_fast.training.stages import ContrastiveMotionLearner, JointLearner
from crrl_fast.training.step import TrainingStep
from crrl_fast.views import PRESETS
from tests.training.runs import assert_same_runs, interrupted, metrics, pretrain, weights
from tests.training.test_step import HostReads

SMALL = Recipe(hidden_size=7, queue_size=9, dropout=0.0, momentum=0.9, batch_size=6)
LEVERS = {
    "velocity_scale": 10.0,
    "projection_size": 5,
    "queue_start": "empty",
    "views": "crrl",
    "symmetric": True,
    "within_stream": 0.5,
    "key_mlp_momentum": True,
}


@pytest.fixture
def clips(tiny_store):
    return ResidentClips(tiny_store, torch.arange(24), tiny_store.frames.double())


def info_nce(query, key, negatives, temperature):
    """He et al.'s pseudocode."""
    query, key = F.normalize(query, dim=1), F.normalize(key, dim=1)
    logits = torch.cat([(query * key).sum(1, keepdim=True), query @ negatives.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64))


def test_by_default_it_is_the_papers_contrast_bit_for_bit(clips):
    torch.manual_seed(0)
    module = ContrastiveMotionLearner(60, SMALL).double()
    assert [name for name in module.state_dict() if "queue" in name] == ["queue.keys", "queue.cursor", "queue.filled"]
    before = copy.deepcopy(module)
    with torch.no_grad():
        for slow, fast in zip(before.key_encoder.parameters(), before.encoder.parameters(), strict=True):
            slow.lerp_(fast, 1 - 0.9)
    batch = clips.batch(torch.tensor([0, 1, 8, 17, 3]))
    query = before.head(before.encoder(batch.coords, batch.lengths).feature)
    key = before.key_head(before.key_encoder(batch.velocity, batch.lengths).feature).detach()
    expected = queue_info_nce(query, key, before.queue.keys, 0.1, normalize=True)
    losses = module(batch)
    assert list(losses) == ["loss", "accuracy"]
    assert torch.equal(losses["loss"], expected)
    assert torch.equal(module.queue.keys[:5], F.normalize(key, dim=1))
    losses["loss"].backward()
    expected.backward()
    for have, want in zip(module.parameters(), before.parameters(), strict=True):
        assert (have.grad is None) == (want.grad is None)
        assert have.grad is None or torch.equal(have.grad, want.grad)


@pytest.mark.parametrize("within", [0.0, 0.5])
@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.parametrize("views", ["none", "crrl"])
def test_symmetric_contrast_is_its_statement(clips, views, scale, within):
    if within and views == "none":
        pytest.skip("refused, see below")
    recipe = SMALL.with_overrides(
        {"symmetric": True, "views": views, "velocity_scale": scale, "within_stream": within, "projection_size": 5}
    )
    torch.manual_seed(0)
    stage = ContrastiveMotionLearner(60, recipe).double()
    position = torch.tensor([0, 1, 8, 17, 3])
    for _ in range(2):  # the second time the key network has moved, and the queues hold keys
        batch = clips.batch(position, 30) if views == "none" else clips.two_views(position, PRESETS[views], 30)
        other = batch.key or batch
        before = [queue.keys.clone() for queue in (stage.queue, stage.coords_queue)]
        losses = stage(batch)
        x, s = (
            stage.head(stage.encoder(frames, batch.lengths).feature)
            for frames in (batch.coords, batch.velocity * scale)
        )
        with torch.no_grad():
            x_key, s_key = (
                stage.key_head(stage.key_encoder(frames, other.lengths).feature)
                for frames in (other.coords, other.velocity * scale)
            )
        of_s, of_x = before
        expected = info_nce(x, s_key, of_s, 0.1) + info_nce(s, x_key, of_x, 0.1)
        expected = expected + within * (info_nce(x, x_key, of_x, 0.1) + info_nce(s, s_key, of_s, 0.1))
        torch.testing.assert_close(losses["loss"], expected, rtol=1e-9, atol=0)
        losses["loss"].backward()
        with torch.no_grad():
            for parameter in stage.encoder.parameters():
                parameter.sub_(0.1 * parameter.grad)
        newest = (stage.queue.cursor - 1) % len(stage.queue.keys)
        torch.testing.assert_close(stage.queue.keys[newest], F.normalize(s_key, dim=1)[-1], rtol=1e-9, atol=0)
        torch.testing.assert_close(stage.coords_queue.keys[newest], F.normalize(x_key, dim=1)[-1], rtol=1e-9, atol=0)


def test_one_direction_alone_scales_the_velocity_of_its_keys(clips):
    torch.manual_seed(0)
    plain = ContrastiveMotionLearner(60, SMALL).double()
    scaled = ContrastiveMotionLearner(60, SMALL.with_overrides({"velocity_scale": 10.0})).double()
    scaled.load_state_dict(plain.state_dict())
    batch = clips.batch(torch.arange(6))
    torch.testing.assert_close(scaled.keys(batch), plain.keys(batch._replace(velocity=batch.velocity * 10)))


def test_an_empty_queue_counts_only_keys_of_clips(clips):
    stage = ContrastiveMotionLearner(60, SMALL.with_overrides({"queue_start": "empty"})).double()
    assert stage(clips.batch(torch.arange(6)))["loss"] == 0  # there is no negative yet
    assert stage.queue.filled == 6
    assert stage(clips.batch(torch.arange(6)))["loss"] > 0


def test_two_views_differ_and_fit_their_batch(clips):
    torch.manual_seed(0)
    position = torch.arange(24)
    batch = clips.two_views(position, PRESETS["crrl"], 30)
    assert batch.coords.shape == batch.key.coords.shape == (24, 30, 60)
    whole = clips.batch(position, 30)
    for view in (batch, batch.key):
        assert (view.lengths >= 1).all()
        assert (view.lengths <= whole.lengths).all()
    assert not torch.equal(batch.coords, batch.key.coords)
    assert not torch.equal(batch.coords, whole.coords)
    resized = clips.two_views(position, PRESETS["skeleton-contrast"], 30)  # to 64 frames, or as many as a clip has
    assert resized.coords.shape == (24, 30, 60)
    assert torch.equal(resized.lengths, whole.lengths)


def test_only_stages_that_contrast_see_views(clips):
    recipe = SMALL.with_overrides({"views": "crrl"})
    seen = []

    class Spy(ContrastiveMotionLearner):
        def forward(self, batch):
            seen.append(batch)
            return super().forward(batch)

    step = TrainingStep(Spy(60, recipe).double(), clips, recipe)
    step.begin_epoch(0.1)
    step(torch.arange(6), 30)
    assert seen[0].key is not None
    assert JointLearner(60, recipe).views is PRESETS["crrl"]
    assert ContrastiveMotionLearner(60, SMALL).views is None


@pytest.mark.parametrize("kind", [ContrastiveMotionLearner, JointLearner])
def test_padding_changes_neither_losses_nor_queues(clips, kind):
    just = kind(60, SMALL.with_overrides(LEVERS)).double()
    more = copy.deepcopy(just)
    for _ in range(2):
        results = []
        for module, frames in ((just, clips.longest), (more, clips.longest + 8)):
            torch.manual_seed(1)
            results.append(module(clips.two_views(torch.arange(6), PRESETS["crrl"], frames)))
        for part, value in results[0].items():
            torch.testing.assert_close(results[1][part], value, rtol=1e-12, atol=0)
    for want, have in zip(just.buffers(), more.buffers(), strict=True):
        torch.testing.assert_close(have, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [ContrastiveMotionLearner, JointLearner])
@pytest.mark.parametrize("views", list(PRESETS)[1:])
def test_a_step_reads_nothing_back(clips, kind, views):
    recipe = SMALL.with_overrides({**LEVERS, "views": views})
    step = TrainingStep(kind(60, recipe).double(), clips, recipe)
    step.begin_epoch(0.1)
    with HostReads() as host:
        for position, frames in clips.shuffled(6, torch.Generator()):
            step(position, frames)
    assert host.calls > 100
    assert host.reads == []
    assert step.losses()["loss"].isfinite().all()


def test_a_faulty_step_is_skipped_with_both_queues(tiny_store):
    frames = tiny_store.frames.clone()
    frames[tiny_store.offsets[8] : tiny_store.offsets[9]] = torch.nan
    faulty = ResidentClips(tiny_store, torch.arange(24), frames)
    recipe = SMALL.with_overrides(LEVERS)
    module = JointLearner(60, recipe)
    step = TrainingStep(module, faulty, recipe, skips=True)
    step.begin_epoch(0.1)
    for position in torch.arange(24).split(6):
        step(position, faulty.longest)
    assert step.losses()["loss"].isfinite().tolist() == [True, False, True, True]
    assert all(value.isfinite().all() for value in module.state_dict().values())
    assert int(module.queue.cursor) == int(module.coords_queue.cursor) == 18 % 9


def test_stages_without_contrast_are_left_alone(tiny_path, tmp_path):
    runs = [
        pretrain(tiny_path, tmp_path / name, stages=("ser",), **asked) for name, asked in (("a", {}), ("b", LEVERS))
    ]
    assert_same_runs(runs[1].path, runs[0].path)


def test_a_student_learns_from_a_teacher_of_views(tiny_path, tmp_path):
    run = pretrain(tiny_path, tmp_path / "run", stages=("cml", "inf"), precision="bf16", **LEVERS)
    assert {row["stage"] for row in metrics(run.path)} == {"cml", "inf"}
    assert all(value.isfinite().all() for stage in weights(run.path).values() for value in stage.values())


@pytest.mark.parametrize("stage", ["cml", "joint"])
def test_a_run_with_all_of_it_resumes_bit_for_bit(tiny_path, tmp_path, monkeypatch, stage):
    asked = {"stages": (stage,), **LEVERS}
    whole = pretrain(tiny_path, tmp_path / "whole", **asked)
    assert all(row["loss"] > 0 for row in metrics(whole.path))
    interrupted(monkeypatch, tiny_path, tmp_path / "run", 7, **asked)
    assert_same_runs(crrl_fast.pretrain(resume=tmp_path / "run", quiet=True).path, whole.path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"velocity_scale": 0}, "velocity_scale must be greater than 0"),
        ({"projection_size": -1}, "projection_size must be at least 0"),
        ({"projection_size": 1025}, "projection_size must be at most 1024"),
        ({"queue_start": "full"}, "queue_start must be one of random, empty"),
        ({"views": "crop"}, "views must be one of none, aimclr"),
        ({"within_stream": 0.5}, "within_stream must be 0 without views and symmetric=true"),
        ({"within_stream": 0.5, "symmetric": True}, "within_stream must be 0 without views and symmetric=true"),
    ],
)
def test_what_cannot_be_contrasted_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Recipe().with_overrides(fields)
