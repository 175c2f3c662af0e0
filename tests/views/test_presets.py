"""Each preset draws what its source draws."""

import math

import pytest
import torch

from crrl_fast.data.layouts import LAYOUTS
from crrl_fast.errors import ConfigError, DataError
from crrl_fast.views import (
    AS_CAL,
    PRESETS,
    Compose,
    Crop,
    Noise,
    Shear,
    aimclr_strong,
    as_cal,
    sample_view_params,
)

VIEWS = 4000
LENGTHS = torch.arange(VIEWS) % 300 + 1


def draw(preset, lengths=LENGTHS, layout="ntu25", seed=0, **options):
    return sample_view_params(preset, lengths, layout, torch.Generator().manual_seed(seed), **options)


def is_about(share, probability, count=VIEWS):
    return abs(float(share) - probability) < 4 * math.sqrt(probability * (1 - probability) / count)


def assert_uniform(values, low, high):
    values = values.double()
    assert low <= values.min() <= low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) <= values.max() <= high
    assert abs(values.mean() - (low + high) / 2) < 5 * (high - low) / math.sqrt(12 * values.numel())


def off_diagonals(matrix):
    return matrix[:, ~torch.eye(3, dtype=torch.bool)]


def test_none_is_the_clip():
    params = draw("none")
    assert torch.equal(params.lengths, LENGTHS)
    assert torch.equal(params.span, LENGTHS - 1)
    assert params.start.count_nonzero() == 0
    assert [name for name, value in params._asdict().items() if value is not None] == [
        "num_joints",
        "lengths",
        "start",
        "span",
        "normalize_blur",
    ]


def assert_is_mirror_padded_crop(params, reversed_time):
    first = torch.where(reversed_time, params.start + params.span, params.start)
    pad = LENGTHS // 6
    assert torch.equal(params.lengths, LENGTHS)
    assert torch.equal(params.span.abs(), LENGTHS - 1)
    assert (first.abs() <= pad).all()
    long = pad >= 20
    assert_uniform(first[long] / pad[long], -1, 1)


def test_aimclr():
    params = draw("aimclr")
    assert_is_mirror_padded_crop(params, torch.zeros(VIEWS, dtype=torch.bool))
    assert params.matrix.diagonal(dim1=1, dim2=2).eq(1).all()
    assert_uniform(off_diagonals(params.matrix), -0.5, 0.5)
    assert params.noise_std is params.blur is params.mirror is params.joints is None


def test_aimclr_strong():
    params = draw("aimclr-strong")
    flips = params.span < 0
    assert is_about(flips[LENGTHS > 1].float().mean(), 0.5)
    assert_is_mirror_padded_crop(params, flips)
    assert is_about(params.mirror.float().mean(), 0.5)
    masked = params.matrix.abs().sum(2) == 0
    assert set(masked.sum(1).tolist()) == {0, 1}
    assert is_about(masked.any(1).float().mean(), 0.5)
    for axis in range(3):
        assert is_about(masked[:, axis].float().mean(), 1 / 6)
    noisy = params.noise_std.any(1)
    assert is_about(noisy.float().mean(), 0.5)
    assert torch.equal(params.noise_std[noisy], 0.01 * (~masked[noisy]).float())  # the mask comes after the noise
    blurred = params.blur[:, 1] > 1e-12
    assert params.blur.shape[1] == 8  # 15 taps
    assert params.blur[:, 0].eq(1).all()
    sigma = (-1 / (2 * params.blur[blurred, 1].double().log())).sqrt()
    assert sigma.max() <= 2.0001
    wide = sigma[sigma > 0.5]  # narrower kernels have no second tap to measure by
    assert_uniform(wide, 0.5, 2.0001)
    assert is_about(len(wide) / VIEWS, 0.5 * 1.5 / 1.9)
    without = draw(aimclr_strong(time_flip=False))
    assert (without.span >= 0).all()


def test_aimclr_rotation_follows_its_source():
    (rotation,) = (part for part in PRESETS["aimclr-strong"].parts if type(part).__name__ == "Rotation")
    matrix = draw(rotation).matrix.double()
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).double().expand_as(matrix), atol=1e-5, rtol=0)
    # Turns about x, then y, then z in the source's signs: the last row is (sin y, -sin x cos y, cos x cos y), the first
    # column (cos z cos y, -sin z cos y, sin y).
    x = torch.atan2(-matrix[:, 2, 1], matrix[:, 2, 2])
    y = matrix[:, 2, 0].clamp(-1, 1).asin()
    z = torch.atan2(-matrix[:, 1, 0], matrix[:, 0, 0])
    degrees = torch.stack([x, y, z], 1).rad2deg()
    assert (degrees > -1e-3).all()
    assert (degrees < 30.001).all()
    assert ((degrees > 1.001).sum(1) <= 1).all()
    for axis in range(3):
        assert is_about((degrees[:, axis] > 1.001).float().mean(), 29 / 90)


def test_skeleton_contrast():
    params = draw("skeleton-contrast")
    assert params.lengths.eq(64).all()
    crop = params.span + 1
    assert (crop >= LENGTHS.clamp(max=64)).all()
    assert (crop <= LENGTHS).all()
    assert ((params.start >= 0) & (params.start + crop <= LENGTHS)).all()
    assert torch.equal(crop[LENGTHS <= 64], LENGTHS[LENGTHS <= 64])
    always = draw("skeleton-contrast", torch.full((VIEWS,), 10_000))
    assert_uniform((always.span + 1) / 10_000, 0.1, 1)
    corrupted = params.joints.any(1)
    assert is_about(corrupted.float().mean(), 0.5)
    assert params.joints[corrupted].sum(1).eq(15).all()
    assert is_about(params.joints[corrupted].float().mean(), 0.6, VIEWS * 25 // 2)
    zeroed = params.joint_matrix.flatten(1).eq(0).all(1)[corrupted]
    assert is_about(zeroed.float().mean(), 0.5, VIEWS // 2)
    assert_uniform(params.joint_matrix[corrupted][~zeroed], -1, 1)
    assert_uniform(off_diagonals(params.matrix[~corrupted]), -1, 1)
    assert torch.equal(params.matrix[corrupted], torch.eye(3).expand_as(params.matrix[corrupted]))


def test_as_cal():
    params = draw("as-cal")
    assert params.origin.eq(1).all()
    assert is_about((params.span < 0)[LENGTHS > 1].float().mean(), 0.5)
    assert_uniform(off_diagonals(params.matrix), -1, 1)


def test_crrl():
    params = draw("crrl")
    assert (params.lengths <= LENGTHS).all()
    crop = params.span + 1
    assert ((params.start >= 0) & (params.start + crop <= LENGTHS)).all()
    long = LENGTHS > 200
    share, tempo = (crop / LENGTHS)[long], (params.lengths / crop)[long]
    assert (share.min(), share.max()) == (pytest.approx(0.5, abs=0.01), pytest.approx(1, abs=0.01))
    assert (tempo.min(), tempo.max()) == (pytest.approx(0.8, abs=0.01), pytest.approx(1.2, abs=0.01))
    assert_uniform(torch.atan2(params.matrix[:, 0, 2], params.matrix[:, 0, 0]).rad2deg(), -30.001, 30.001)
    assert_uniform(torch.atan2(params.matrix[:, 2, 1], params.matrix[:, 1, 1]).rad2deg(), -10.001, 10.001)
    names = {name for name, value in params._asdict().items() if value is not None}
    assert names == {"num_joints", "lengths", "start", "span", "matrix", "normalize_blur"}


@pytest.mark.parametrize("name", AS_CAL)
def test_as_cal_transforms_by_name(name):
    assert as_cal(name).parts == (AS_CAL[name],)
    draw(as_cal(name))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("preset", PRESETS)
def test_the_same_generator_draws_the_same(preset, layout):
    first, second, other = (draw(preset, LENGTHS[:50], layout, seed) for seed in (1, 1, 2))
    pairs = zip(first, second, strict=True)
    assert all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)
    assert preset == "none" or any(
        not torch.equal(a, b) for a, b in zip(first, other, strict=True) if isinstance(a, torch.Tensor)
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_are_where_the_lengths_are(device, preset):
    lengths = torch.tensor([1, 5, 70], device=device)
    for generator in (None, torch.Generator().manual_seed(1), torch.Generator(device).manual_seed(1)):
        params = sample_view_params(preset, lengths, "kinect20", generator)
        assert all(value.device == lengths.device for value in params if isinstance(value, torch.Tensor))
    back = params.to("cpu")
    assert all(value.device.type == "cpu" for value in back if isinstance(value, torch.Tensor))


@pytest.mark.parametrize("preset", PRESETS)
def test_drawing_again_copies_nothing_from_the_host(preset, monkeypatch):
    """On a GPU that would wait for it, and a CUDA graph could not capture it."""
    draw(preset)

    def refuse(*values, **options):
        raise AssertionError(f"{values} come from the host")

    for name in ("tensor", "as_tensor", "from_numpy"):
        monkeypatch.setattr(torch, name, refuse)
    draw(preset, LENGTHS[:9], seed=1)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_gpu_is_not_waited_for(cuda, preset):
    lengths = LENGTHS.to(cuda)
    sample_view_params(preset, lengths, "ntu25")
    torch.cuda.set_sync_debug_mode("error")
    try:
        sample_view_params(preset, lengths, "ntu25")
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_compat_leaves_the_blur_as_it_is():
    assert draw("aimclr-strong").normalize_blur
    assert not draw("aimclr-strong", compat=True).normalize_blur


def test_select():
    params = draw("aimclr-strong")
    some = params.select(torch.tensor([7, 3]))
    assert torch.equal(some.matrix, params.matrix[[7, 3]])
    assert torch.equal(some.partner, params.partner)
    assert some.num_joints == 25


def test_own_composition():
    params = draw(Compose((Crop(frames=30), Shear(amplitude=0.2, p=0.25), Noise(std=0.5))))
    assert torch.equal(params.lengths, LENGTHS.clamp(max=30))
    changed = (off_diagonals(params.matrix) != 0).all(1)
    assert is_about(changed.float().mean(), 0.25)
    assert params.noise_std.eq(0.5).all()
    assert len(params.seed.unique()) == VIEWS


def test_bad_requests_are_named():
    with pytest.raises(ConfigError, match=r"unknown view preset 'aimclr_strong'; there are none, aimclr"):
        draw("aimclr_strong")
    with pytest.raises(DataError, match="unknown joint layout 'ntu26'"):
        draw("none", layout="ntu26")
    with pytest.raises(ConfigError, match=r"AS-CAL has no transform 'flip'; there are subtract"):
        as_cal("flip")
    with pytest.raises(TypeError, match=r"lengths must be int64, got float32"):
        draw("none", torch.ones(3))
    with pytest.raises(ValueError, match=r"lengths must have shape \[B\], got \[3, 1\]"):
        draw("none", torch.ones(3, 1, dtype=torch.int64))
