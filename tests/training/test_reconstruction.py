"""What stages `ser`, `inf` and `joint` decode, against plain statements in float64 with stock modules."""

import pytest
import torch
from torch import nn

import crrl_fast
from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.errors import ConfigError
from crrl_fast.models import SequenceDecoder
from crrl_fast.padding import reverse_time
from crrl_fast.training.stages import JointLearner, SequenceReconstructor
from tests.training.runs import assert_same_runs, interrupted, pretrain

SMALL = Recipe(hidden_size=7, queue_size=9, dropout=0.0)
LEVERS = {"decoder_size": 11, "decoder_layers": 1, "decode_from": "mean", "velocity_weight": 3.0}


@pytest.fixture
def batch(tiny_store):
    clips = ResidentClips(tiny_store, torch.arange(24), tiny_store.frames.double())
    return clips.batch(torch.tensor([0, 1, 8, 17, 3]))


def decoded_by_stock(decoder, vector, frames):
    gru = nn.GRU(len(vector), decoder.gru.hidden_size, decoder.gru.num_layers, batch_first=True).double()
    gru.load_state_dict(decoder.gru.state_dict())
    outputs = gru(vector.expand(1, frames, -1))[0][0]
    return outputs if decoder.readout is None else outputs @ decoder.readout.weight.T + decoder.readout.bias


@pytest.mark.parametrize("velocity", [0.0, 3.0])
@pytest.mark.parametrize("decode_from", ["ends", "mean"])
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_reconstruction_is_its_statement(batch, decode_from, layers, velocity):
    recipe = SMALL.with_overrides(
        {"decoder_size": 11, "decoder_layers": layers, "decode_from": decode_from, "velocity_weight": velocity}
    )
    torch.manual_seed(0)
    stage = SequenceReconstructor(60, recipe).double()
    assert stage.decoder.gru.num_layers == (layers or 2)
    losses = stage(batch)
    total = 0.0
    for i, frames in enumerate(batch.lengths.tolist()):
        coords, moved = batch.coords[i, :frames], batch.velocity[i, :frames]
        target = torch.cat([coords, velocity * moved], dim=1) if velocity else coords
        encoding = stage.encoder(coords[None], torch.tensor([frames]))
        if decode_from == "mean":
            pairs = [(encoding.feature, target)] * 2
        else:
            pairs = [(encoding.first, target), (encoding.last, target.flip(0))]
        for vector, wanted in pairs:
            total += (decoded_by_stock(stage.decoder, vector[0], frames) - wanted).square().sum() / frames
    torch.testing.assert_close(losses["loss"], total / len(batch.lengths), rtol=1e-9, atol=0)
    assert set(losses) == ({"loss", "forward"} if decode_from == "mean" else {"loss", "forward", "reverse"})
    losses["loss"].backward()
    assert all(parameter.grad is not None for parameter in stage.parameters())


@pytest.mark.parametrize("build", [SequenceReconstructor, JointLearner], ids=["ser", "joint"])
def test_by_default_it_is_the_papers_bit_for_bit(batch, build):
    stage = build(60, SMALL).double()
    assert {name for name in stage.state_dict() if name.startswith("decoder.")} == {
        f"decoder.gru.{name}" for name in nn.GRU(14, 60, 2).state_dict()
    }
    encoding = stage.encoder(batch.coords, batch.lengths)
    vectors, frames = torch.cat([encoding.first, encoding.last]), batch.coords.shape[1]
    decoded = stage.decoder.gru(vectors, batch.lengths.repeat(2), frames=frames).outputs
    targets = batch.coords, reverse_time(batch.coords, batch.lengths)
    forward, reverse = (
        ((part - target).square().sum(dim=(1, 2)) / batch.lengths).mean()
        for part, target in zip(decoded.split(5), targets, strict=True)
    )
    losses = stage(batch)
    assert torch.equal(losses["forward"], forward)
    assert torch.equal(losses["reverse"], reverse)
    assert torch.equal(losses["loss"], forward + reverse + losses.get("contrast", 0))


def test_padding_is_zero_behind_the_read_out():
    decoder = SequenceDecoder(4, 5, 1, 3)
    decoded = decoder(torch.randn(2, 4), 6, torch.tensor([2, 6]))
    assert not decoded[0, 2:].any()
    assert decoded[0, :2].all()
    assert decoder(torch.randn(2, 4), 6).all()


def test_the_reconstruction_of_joint_is_weighted(batch):
    torch.manual_seed(0)
    stage = JointLearner(60, SMALL.with_overrides({"reconstruction_weight": 0.25, "contrast_weight": 2.0})).double()
    losses = stage(batch)
    expected = 0.25 * (losses["forward"] + losses["reverse"]) + 2 * losses["contrast"]
    torch.testing.assert_close(losses["loss"], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("stages", [("ser",), ("joint",), ("cml", "inf")])
def test_a_run_with_all_of_it_resumes_bit_for_bit_and_is_evaluated(tiny_path, tmp_path, monkeypatch, stages):
    whole = pretrain(tiny_path, tmp_path / "whole", stages=stages, **LEVERS)
    interrupted(monkeypatch, tiny_path, tmp_path / "run", 9, stages=stages, **LEVERS)
    resumed = crrl_fast.pretrain(resume=tmp_path / "run", quiet=True)
    assert_same_runs(resumed.path, whole.path)
    assert resumed.load_encoder(stages[-1]).feature_size == 16


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"decode_from": "middle"}, "decode_from must be one of ends, mean"),
        ({"decoder_size": -1}, "decoder_size must be at least 0"),
        ({"decoder_layers": 65}, "decoder_layers must be at most 64"),
        ({"velocity_weight": 1.0}, "velocity_weight must be 0 without decoder_size"),
        ({"reconstruction_weight": -1}, "reconstruction_weight must be at least 0"),
    ],
)
def test_what_cannot_be_decoded_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Recipe().with_overrides(fields)
