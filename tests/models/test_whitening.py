import numpy as np
import pytest
import torch

from crrl_fast.models import Whitening


def features_of(clips: int, size: int) -> torch.Tensor:
    """Return features whose axes vary by very different amounts, about a mean that is far from 0."""
    generator = torch.Generator().manual_seed(0)
    rotation, _ = torch.linalg.qr(torch.randn(size, size, generator=generator))
    return torch.randn(clips, size, generator=generator) * torch.logspace(-3, 0, size) @ rotation + 0.5


def expected(fitted, values, power):
    """Return what the definition says of ``values``, in float64 NumPy, axis by axis."""
    fitted, values = fitted.double().numpy(), values.double().numpy()
    centred = fitted - fitted.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=True)
    variance = np.zeros(fitted.shape[1])
    variance[: len(sizes)] = sizes**2 / len(fitted)
    scale = (variance + 1e-3 * variance.mean()) ** (-power / 2)

    def along_axes(rows):
        return (rows - fitted.mean(axis=0)) @ axes.T * scale @ axes

    return along_axes(values) / np.sqrt((along_axes(fitted) ** 2).sum(axis=1).mean())


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("clips", "size"), [(200, 6), (40, 40), (9, 32)])  # also fewer clips than numbers
def test_it_is_what_the_definition_says(device, clips, size, power):
    fitted, others = features_of(clips, size), features_of(clips + 5, size)[clips:]
    whitening = Whitening(size).to(device)
    whitening.fit(fitted.to(device), power)
    assert whitening.matrix.dtype == torch.float32
    for values in (fitted, others):
        have = whitening(values.to(device)).double().cpu().numpy()
        want = expected(fitted, values, power)
        np.testing.assert_allclose(have, want, rtol=0, atol=1e-4 * np.abs(want).max())
    whitened = whitening(fitted.to(device)).double()
    assert float(whitened.square().sum(dim=1).mean()) == pytest.approx(1, abs=1e-4)
    assert float(whitened.mean(dim=0).abs().max()) < 1e-4
    shorter = Whitening(size).to(device)
    shorter.fit(fitted.to(device), power, squared_norm=0.25)
    torch.testing.assert_close(shorter(fitted.to(device)).double(), whitened / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_axes_and_variances_may_be_those_within_clips(device, power):
    fitted, size = features_of(200, 6), 6
    apart = features_of(50, size).flip(1)
    apart = (apart - apart.mean(dim=0)).double()
    within = apart.T @ apart / 49
    whitening = Whitening(size).to(device)
    whitening.fit(fitted.to(device), power, within=within.to(device), squared_norm=0.25)
    variance, axes = np.linalg.eigh(within.numpy())
    centred = (fitted - fitted.mean(dim=0)).double().numpy()
    want = centred @ axes * (variance + 1e-3 * variance.mean()) ** (-power / 2) @ axes.T
    want *= 0.5 / np.sqrt((want**2).sum(axis=1).mean())
    have = whitening(fitted.to(device)).double().cpu().numpy()
    np.testing.assert_allclose(have, want, rtol=0, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("within", [torch.zeros(4, 4), torch.full((4, 4), 1e-16)])
def test_views_that_are_all_the_same_leave_features_centred_alone(within):
    fitted = features_of(30, 4)
    whitening = Whitening(4)
    whitening.fit(fitted, 1.0, within=within)
    assert torch.equal(whitening.matrix, torch.eye(4))
    torch.testing.assert_close(whitening(fitted), fitted - fitted.mean(dim=0))


def test_power_1_evens_out_the_axes_and_power_0_keeps_their_ratios():
    fitted = features_of(500, 4)

    def spreads(power):
        whitening = Whitening(4)
        whitening.fit(fitted, power)
        return torch.linalg.svdvals(whitening(fitted).double() - whitening(fitted).double().mean(dim=0))

    ratios = [float(values.max() / values.min()) for values in map(spreads, (1.0, 0.5, 0.0))]
    assert ratios == sorted(ratios)
    before = torch.linalg.svdvals(fitted.double() - fitted.double().mean(dim=0))
    torch.testing.assert_close(spreads(0.0) / spreads(0.0)[0], before / before[0], rtol=1e-3, atol=1e-5)
    large = fitted.clone() * 1000
    scaled = Whitening(4)
    scaled.fit(large, 0.5)
    whitening = Whitening(4)
    whitening.fit(fitted, 0.5)
    torch.testing.assert_close(scaled(large), whitening(fitted), rtol=1e-3, atol=1e-4)  # units do not matter


def test_before_it_is_fitted_it_changes_nothing():
    values = features_of(5, 8)
    assert torch.equal(Whitening(8)(values), values)


@pytest.mark.parametrize(
    "values", [torch.full((1, 5), 0.3), torch.zeros(4, 5), torch.linspace(-1, 1, 5).repeat(100, 1)]
)
def test_features_that_do_not_vary_are_centred_alone(values):
    whitening = Whitening(5)
    whitening.fit(values, 1.0)
    assert torch.equal(whitening.matrix, torch.eye(5))
    torch.testing.assert_close(whitening(values), torch.zeros_like(values))
    other = values + 1
    torch.testing.assert_close(whitening(other), torch.ones_like(other))


def test_rounding_is_not_taken_for_variation():
    values = torch.full((50, 8), 0.7) * (1 + torch.randint(-1, 2, (50, 8)) * torch.finfo(torch.float32).eps)
    whitening = Whitening(8)
    whitening.fit(values, 1.0)
    assert whitening(values).abs().max() < 1e-6


def test_features_of_double_precision_and_axes_that_never_vary():
    values = features_of(30, 6).double()
    values[:, 2] = 4.0
    whitening = Whitening(6)
    whitening.fit(values, 1.0)
    assert whitening.matrix.isfinite().all()
    shifted = values.float().clone()
    shifted[:, 2] += 1e-6  # what does not vary is enlarged, but by a bounded factor
    assert (whitening(shifted) - whitening(values.float())).abs().max() < 1e-2
