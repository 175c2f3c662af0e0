"""AimCLR's augmentation in NumPy computes what our reference does."""

import aimclr_numpy
import numpy as np
import torch

from crrl_fast.reference import skeleton_views
from crrl_fast.views import ViewParams

FRAMES, JOINTS, BODIES = 20, 4, 2
CLIP = np.random.default_rng(0).standard_normal((3, FRAMES, JOINTS, BODIES)).astype(np.float32)


def reference(**fields) -> np.ndarray:
    """Return the view of CLIP in the layout of NumPy's."""
    packed = torch.from_numpy(CLIP).permute(1, 3, 2, 0).reshape(FRAMES, -1)
    given = {"start": torch.tensor([0]), "span": torch.tensor([FRAMES - 1]), **fields}
    params = ViewParams(num_joints=JOINTS, lengths=torch.tensor([FRAMES]), **given)
    (coords,), _, _ = skeleton_views(packed, torch.tensor([0, FRAMES]), torch.tensor([0]), params)
    return coords.reshape(FRAMES, BODIES, JOINTS, 3).permute(3, 0, 2, 1).numpy()


def test_crop_mirrors_at_the_edges():
    for start in range(7):
        np.testing.assert_array_equal(aimclr_numpy.crop(CLIP, 3, start), reference(start=torch.tensor([start - 3])))


def test_multiply():
    matrix = aimclr_numpy.shear_matrix(np.random.default_rng(0))
    assert (np.diag(matrix) == 1).all()
    expected = reference(matrix=torch.from_numpy(matrix)[None])
    np.testing.assert_allclose(aimclr_numpy.multiply(CLIP, matrix), expected, atol=1e-6)


def test_rotation_is_one_and_turns_by_up_to_30_degrees():
    rng = np.random.default_rng(0)
    for _ in range(50):
        matrix = aimclr_numpy.rotation_matrix(rng)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
        assert np.linalg.det(matrix) > 0
        assert (np.trace(matrix) - 1) / 2 >= np.cos(np.deg2rad(32))


def test_blur_is_that_of_compat():
    sigma = 1.3
    weights = torch.exp(-0.5 * (torch.arange(8) / sigma) ** 2)
    weights = weights / (2 * weights.sum() - weights[0])
    expected = reference(blur=weights[None], normalize_blur=False)
    np.testing.assert_allclose(aimclr_numpy.blur(CLIP, sigma), expected, atol=1e-6)


def test_views_keep_their_shape_and_their_clip():
    before = CLIP.copy()
    rng = np.random.default_rng(0)
    views = [aimclr_numpy.strong_view(CLIP, [1, 0, 2, 3], rng) for _ in range(40)]
    assert all(view.shape == CLIP.shape and view.dtype == np.float32 and np.isfinite(view).all() for view in views)
    masked = [(view == 0).all(axis=(1, 2, 3)).any() for view in views]
    assert 0.25 < np.mean(masked) < 0.75
    np.testing.assert_array_equal(CLIP, before)
