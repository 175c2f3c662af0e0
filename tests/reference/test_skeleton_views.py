"""The reference against the augmentations written out clip by clip in NumPy, as their sources do."""

import numpy as np
import pytest
import torch

from crrl_fast.data.layouts import LAYOUTS
from crrl_fast.reference import skeleton_views
from crrl_fast.reference.philox import normals, philox
from crrl_fast.views import ViewParams

V = 25
PARTNER = list(range(V))
for _left, _right in LAYOUTS["ntu25"].mirror:
    PARTNER[_left], PARTNER[_right] = _right, _left


def clip(frames, bodies=2, seed=0):
    return np.random.default_rng(seed).normal(size=(frames, bodies, V, 3))


def view(coords, *, out_frames=None, dtype=torch.float64, **fields):
    """Return coords and velocity of one view of one clip (T, M, V, 3); ``fields`` are of the one view."""
    frames = len(coords)
    given = {"length": frames, "start": 0, "span": frames - 1} | fields
    params = ViewParams(
        num_joints=V,
        lengths=torch.tensor([given.pop("length")]),
        start=torch.tensor([given.pop("start")]),
        span=torch.tensor([given.pop("span")]),
        normalize_blur=given.pop("normalize_blur", True),
        partner=torch.tensor(PARTNER),
        **{name: torch.as_tensor(np.asarray(value))[None] for name, value in given.items()},
    )
    packed = torch.tensor(coords.reshape(frames, -1)).to(dtype)
    views = skeleton_views(packed, torch.tensor([0, frames]), torch.tensor([0]), params, out_frames=out_frames)
    shape = (-1, *coords.shape[1:])
    return views.coords[0].double().numpy().reshape(shape), views.velocity[0].double().numpy().reshape(shape)


@pytest.mark.parametrize("frames", [1, 5, 6, 50])
def test_mirror_padded_crop(frames):
    # AimCLR's temperal_crop: concatenate the reversed ends, cut from each start.
    x, pad = clip(frames), frames // 6
    padded = np.concatenate([x[:pad][::-1], x, x[frames - pad :][::-1]])
    for begin in range(2 * pad + 1):
        coords, _ = view(x, start=begin - pad)
        np.testing.assert_array_equal(coords, padded[begin : begin + frames])


def test_positions_far_outside_the_clip_follow_numpy_padding():
    x = clip(4)
    padded = np.pad(x, [(20, 20), (0, 0), (0, 0), (0, 0)], mode="symmetric")
    for start in range(-20, 20):
        coords, _ = view(x, start=start)
        np.testing.assert_array_equal(coords, padded[start + 20 : start + 24])


@pytest.mark.parametrize(("first", "crop", "length"), [(0, 10, 64), (3, 40, 64), (7, 1, 5), (0, 64, 64), (5, 33, 1)])
def test_crop_resize_interpolates_and_keeps_the_ends(first, crop, length):
    x = clip(70)
    coords, _ = view(x, start=first, span=crop - 1, length=length)
    positions = first + np.arange(length) * (crop - 1) / max(length - 1, 1)
    flat = x.reshape(70, -1)
    expected = np.stack([np.interp(positions, np.arange(70), column) for column in flat.T], axis=1)
    np.testing.assert_allclose(coords.reshape(length, -1), expected, atol=1e-12)
    np.testing.assert_array_equal(coords[0], x[first])
    if length > 1:
        np.testing.assert_array_equal(coords[-1], x[first + crop - 1])


def test_integer_positions_are_exact_and_read_nothing_else():
    x = clip(61)
    x[1::2] = np.nan  # between the frames that are read
    coords, _ = view(x, span=60, length=31)
    np.testing.assert_array_equal(coords, x[::2])


def test_time_flip_is_a_negative_span():
    x = clip(9)
    np.testing.assert_array_equal(view(x, start=8, span=-8)[0], x[::-1])
    resized, reverse = view(x, start=1, span=6, length=20)[0], view(x, start=7, span=-6, length=20)[0]
    np.testing.assert_allclose(reverse, resized[::-1], atol=1e-14)


def test_origin_is_subtracted_within_each_body():
    x = clip(5)
    np.testing.assert_array_equal(view(x, origin=7)[0], x - x[:, :, 7:8])
    np.testing.assert_array_equal(view(x, origin=-1)[0], x)


def test_mirror_swaps_joints():
    x = clip(5)
    np.testing.assert_array_equal(view(x, mirror=True)[0], x[:, :, PARTNER])
    np.testing.assert_array_equal(view(x, mirror=True, origin=4)[0], (x - x[:, :, 4:5])[:, :, PARTNER])


def test_matrix_and_joint_matrix():
    x, rng = clip(5), np.random.default_rng(1)
    matrix, other = rng.normal(size=(2, 3, 3)).astype(np.float32)
    joints = rng.random(V) < 0.5
    moved = np.einsum("ij,tmvj->tmvi", matrix, x)
    np.testing.assert_allclose(view(x, matrix=matrix)[0], moved, atol=1e-12)
    moved[:, :, joints] = np.einsum("ij,tmvj->tmvi", other, x[:, :, joints])
    np.testing.assert_allclose(view(x, matrix=matrix, joints=joints, joint_matrix=other)[0], moved, atol=1e-12)
    hidden = np.where(joints[:, None], 0, x)
    np.testing.assert_array_equal(view(x, joints=joints, joint_matrix=np.zeros((3, 3), np.float32))[0], hidden)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("frames", [1, 4, 30])
def test_blur_is_a_convolution_over_time(frames, normalize):
    # AimCLR's GaussianBlurConv: exp(-k^2 / 2 sigma^2), 15 taps, padded with zeros.
    x, taps = clip(frames), np.exp(-(np.arange(8) ** 2) / (2 * 1.3**2)).astype(np.float32)
    kernel = np.concatenate([taps[:0:-1], taps]).astype(np.float64)
    expected = np.zeros_like(x)
    for t in range(frames):
        inside = [k for k in range(-7, 8) if 0 <= t + k < frames]
        expected[t] = sum(kernel[k + 7] * x[t + k] for k in inside)
        if normalize:
            expected[t] /= sum(kernel[k + 7] for k in inside)
    np.testing.assert_allclose(view(x, blur=taps, normalize_blur=normalize)[0], expected, atol=1e-12)


def test_velocity_and_padding():
    x = clip(6)
    coords, velocity = view(x, length=4, span=3, out_frames=9)
    np.testing.assert_array_equal(coords[:4], x[:4])
    np.testing.assert_allclose(velocity[:3], np.diff(x[:4], axis=0), atol=1e-14)
    assert not coords[4:].any()
    assert not velocity[3:].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_velocity_is_that_of_the_unrounded_coords(dtype):
    x = 1 + 1e-3 * clip(30)
    taps = np.array([1, 0.8, 0.3], dtype=np.float32)
    rounded = torch.tensor(x).to(dtype).double().numpy()
    truth = view(rounded, blur=taps)[1]
    error = np.abs(view(x, blur=taps, dtype=dtype)[1] - truth).max()
    assert error <= np.abs(truth).max() * torch.finfo(dtype).eps + 1e-6


def test_noise_is_keyed_by_seed_clip_frame_and_joint():
    x = np.zeros((3, 2, V, 3))
    std = np.array([1, 2, 0], dtype=np.float32)
    coords, _ = view(x, noise_std=std, seed=5)
    for frame, body, joint in [(0, 0, 0), (2, 1, 24), (1, 0, 7)]:
        counter = tuple(torch.tensor(number) for number in (body * V + joint, frame, 0, 0))
        expected = normals(philox(counter, torch.tensor(5))).numpy() * std
        np.testing.assert_allclose(coords[frame, body, joint], expected, atol=1e-12)
    assert not np.array_equal(view(x, noise_std=std, seed=6)[0], coords)
    # The key is the frame of the view: a reversed view has the noise of its own first frame first.
    np.testing.assert_array_equal(view(x, start=2, span=-2, noise_std=std, seed=5)[0], coords)


def test_philox_known_answers():
    # Random123, kat_vectors, philox4x32 10.
    def words(*counter, seed):
        return [int(word) for word in philox(tuple(torch.tensor(c) for c in counter), torch.tensor(seed))]

    ones = 0xFFFFFFFF
    assert words(0, 0, 0, 0, seed=0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert words(ones, ones, ones, ones, seed=-1) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    digits_of_pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    expected = [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]
    assert words(*digits_of_pi, seed=0x299F31D0A4093822) == expected


def test_noise_is_standard_normal_and_independent():
    noise = torch.tensor(view(np.zeros((2000, 2, V, 3)), noise_std=np.ones(3, np.float32), seed=1)[0]).flatten(1)
    samples = noise.numel()
    assert abs(noise.mean()) < 4 / samples**0.5
    assert abs(noise.var() - 1) < 4 * (2 / samples) ** 0.5
    assert abs(noise.pow(3).mean()) < 4 * (15 / samples) ** 0.5
    assert abs(noise.pow(4).mean() - 3) < 4 * (96 / samples) ** 0.5
    between_coordinates = torch.corrcoef(noise.T) - torch.eye(150)
    assert between_coordinates.abs().max() < 6 / 2000**0.5
    between_frames = (noise[1:] * noise[:-1]).mean()
    assert abs(between_frames) < 4 / samples**0.5


def test_empty_batches_keep_their_shape():
    none = torch.zeros(0, dtype=torch.int64)
    params = ViewParams(V, none, none, none)
    views = skeleton_views(torch.randn(4, 75), torch.tensor([0, 4]), none, params)
    assert views.coords.shape == views.velocity.shape == (0, 0, 75)
    assert skeleton_views(torch.randn(4, 75), torch.tensor([0, 4]), none, params, out_frames=7).coords.shape == (
        0,
        7,
        75,
    )
