import copy

import pytest
import torch

from crrl_fast.models import ConcatEncoder, FeatureEncoder, MotionEncoder, Whitening
from crrl_fast.reference import motion_diff

LENGTHS = torch.tensor([7, 3, 1, 0])


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return MotionEncoder(6, 4, 2, 0.2).eval()


@pytest.fixture
def clips():
    """Return clips of 7, 3, 1 and 0 frames with NaN in their padding."""
    x = torch.randn(4, 7, 6, generator=torch.Generator().manual_seed(1))
    return torch.where((torch.arange(7) < LENGTHS[:, None])[:, :, None], x, torch.nan)


def fit(encoder: FeatureEncoder) -> torch.Tensor:
    """Fit the whitening to random features, and return these."""
    features = torch.randn(50, encoder.feature_size, generator=torch.Generator().manual_seed(2)) * 0.1
    features[:, 0] *= 20
    encoder.fit_whitening(features, 0.5)
    return features


def test_both_is_the_encoder_on_coordinates_beside_the_encoder_on_scaled_velocity(encoder, clips):
    both = FeatureEncoder(encoder, 10.0, whitens=False)
    assert (both.streams, both.feature_size, len(both.whitening)) == (2, 16, 0)
    streams = encoder(clips, LENGTHS), encoder(motion_diff(clips, LENGTHS) * 10, LENGTHS)
    for have, *parts in zip(both(clips, LENGTHS), *streams, strict=True):
        torch.testing.assert_close(have, torch.cat(parts, dim=1))


def test_bones_are_the_encoder_on_differences_to_parents(encoder, clips):
    every = FeatureEncoder(encoder, 10.0, parents=[0, 1, 2, 0, 1, 2], whitens=False)
    assert (every.streams, every.feature_size) == (3, 24)
    bones = torch.cat([torch.zeros_like(clips[:, :, :3]), clips[:, :, 3:] - clips[:, :, :3]], dim=2)
    streams = encoder(clips, LENGTHS), encoder(motion_diff(clips, LENGTHS) * 10, LENGTHS), encoder(bones, LENGTHS)
    for have, *parts in zip(every(clips, LENGTHS), *streams, strict=True):
        torch.testing.assert_close(have, torch.cat(parts, dim=1))
    assert set(every.state_dict()) == {f"encoder.{name}" for name in encoder.state_dict()}


def test_without_velocity_or_whitening_it_is_the_encoder(encoder, clips):
    alone = FeatureEncoder(encoder, None, whitens=False)
    for have, want in zip(alone(clips, LENGTHS), encoder(clips, LENGTHS), strict=True):
        assert torch.equal(have, want)


def test_each_stream_takes_its_own_covariance_of_views(encoder):
    features = torch.rand(50, 16, generator=torch.Generator().manual_seed(2))
    within = torch.stack([torch.diag(torch.arange(1.0, 9)), torch.eye(8)])
    both = FeatureEncoder(encoder, 10.0, whitens=True)
    both.fit_whitening(features, 1.0, within)
    for whitening, part, covariance in zip(both.whitening, features.chunk(2, dim=1), within, strict=True):
        alone = Whitening(8)
        alone.fit(part, 1.0, within=covariance, squared_norm=0.5)
        assert torch.equal(whitening.matrix, alone.matrix)
        assert torch.equal(whitening.mean, alone.mean)
    assert not torch.equal(both.whitening[0].matrix, both.whitening[1].matrix)


@pytest.mark.parametrize("velocity_scale", [None, 10.0])
def test_each_stream_is_whitened_by_itself_and_nothing_but_the_feature(encoder, clips, velocity_scale):
    whitened = FeatureEncoder(encoder, velocity_scale, whitens=True)
    plain = FeatureEncoder(encoder, velocity_scale, whitens=False)
    assert torch.equal(whitened(clips, LENGTHS).feature, plain(clips, LENGTHS).feature)  # before it is fitted
    features = fit(whitened)
    found, before = whitened(clips, LENGTHS), plain(clips, LENGTHS)
    parts = zip(before.feature.chunk(whitened.streams, dim=1), whitened.whitening, strict=True)
    want = torch.cat([(part - whitening.mean) @ whitening.matrix for part, whitening in parts], dim=1)
    torch.testing.assert_close(found.feature, want)
    assert torch.equal(found.first, before.first)
    assert torch.equal(found.last, before.last)
    norms = torch.stack(
        [part.square().sum(dim=1).mean() for part in whitened.whitened(features).chunk(whitened.streams, 1)]
    )
    torch.testing.assert_close(norms, torch.full_like(norms, 1 / whitened.streams), rtol=1e-4, atol=0)


def test_clips_do_not_see_each_other_nor_the_padding(encoder, clips):
    whitened = FeatureEncoder(encoder, 10.0, whitens=True)
    fit(whitened)
    together = whitened(clips, LENGTHS).feature
    assert together.isfinite().all()
    for clip, length in enumerate(LENGTHS.tolist()[:3]):
        alone = whitened(clips[clip : clip + 1, :length], torch.tensor([length])).feature
        torch.testing.assert_close(alone[0], together[clip])
    nothing = whitened.whitened(torch.zeros(1, 16))
    torch.testing.assert_close(together[3], nothing[0])  # 0 frames: 0 before it is whitened


def test_its_state_comes_back(encoder, clips):
    whitened = FeatureEncoder(encoder, 10.0, whitens=True)
    fit(whitened)
    names = [name for name in whitened.state_dict() if name.startswith("whitening.")]
    assert names == ["whitening.0.mean", "whitening.0.matrix", "whitening.1.mean", "whitening.1.matrix"]
    torch.manual_seed(9)
    other = FeatureEncoder(MotionEncoder(6, 4, 2, 0.2), 10.0, whitens=True).eval()
    other.load_state_dict(copy.deepcopy(whitened.state_dict()))
    assert torch.equal(other(clips, LENGTHS).feature, whitened(clips, LENGTHS).feature)


def test_its_encoder_learns_through_it_and_the_whitening_does_not(encoder, clips):
    whitened = FeatureEncoder(encoder.train(), 10.0, whitens=True)
    fit(whitened)
    with torch.autocast("cpu", torch.bfloat16):
        feature = whitened(clips, LENGTHS).feature
    assert feature.dtype == torch.float32
    features = feature.detach().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(whitened.whitened(features), whitened.whitened(features.float()))
    feature.square().sum().backward()
    assert {name for name, _ in whitened.named_parameters()} == {
        f"encoder.gru.{name}" for name in encoder.gru.state_dict()
    }
    assert all(parameter.grad.isfinite().all() for parameter in whitened.parameters())
    assert encoder.gru.weight_ih_l0.grad.any()


def test_several_side_by_side(encoder, clips):
    whitened = FeatureEncoder(encoder, 10.0, whitens=True)
    fit(whitened)
    concat = ConcatEncoder({"ser": encoder, "cml": whitened})
    assert concat.feature_size == 24
    parts = [part(clips, LENGTHS).feature for part in (encoder, whitened)]
    assert torch.equal(concat(clips, LENGTHS).feature, torch.cat(parts, dim=1))
