"""AimCLR's strong augmentation as a NumPy feeder applies it: one clip at a time, one step after another.

The steps, ranges and probabilities are those of AimCLR (Guo et al., AAAI 2022); the code is ours. A clip is
(3, frames, joints, bodies), as in the feeders of ST-GCN and its successors. Each step is as few NumPy calls as it can
be, so that what is measured is the design and not an oversight.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Clip = NDArray[np.float32]

BLUR_TAPS = 15


def strong_view(clip: Clip, partner: Sequence[int], rng: np.random.Generator) -> Clip:
    """Draw one strong view. ``partner``: the joint on the other side of the body, for each joint."""
    pad = clip.shape[1] // 6
    view = crop(clip, pad, int(rng.integers(0, 2 * pad + 1)))
    view = multiply(view, shear_matrix(rng))
    if rng.random() < 0.5:
        view = view[:, :, partner]
    view = multiply(view, rotation_matrix(rng))
    if rng.random() < 0.5:
        view = view[:, ::-1]
    if rng.random() < 0.5:
        view = view + rng.standard_normal(view.shape, dtype=np.float32) * np.float32(0.01)
    if rng.random() < 0.5:
        view = blur(view, rng.uniform(0.1, 2.0))
    if rng.random() < 0.5:
        view = view.copy()
        view[rng.integers(3)] = 0
    return np.ascontiguousarray(view)


def crop(clip: Clip, pad: int, start: int) -> Clip:
    """Mirror ``pad`` frames at either end, and take as many frames as the clip has from ``start`` on."""
    frames = clip.shape[1]
    padded = np.concatenate([clip[:, :pad][:, ::-1], clip, clip[:, frames - pad :][:, ::-1]], axis=1)
    return padded[:, start : start + frames]


def multiply(clip: Clip, matrix: NDArray[np.float32]) -> Clip:
    """Multiply each joint by the matrix."""
    moved: Clip = matrix @ clip.reshape(3, -1)
    return moved.reshape(clip.shape)


def shear_matrix(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw six off-diagonals from U(-0.5, 0.5)."""
    matrix = rng.uniform(-0.5, 0.5, (3, 3)).astype(np.float32)
    np.fill_diagonal(matrix, 1)
    return matrix


def rotation_matrix(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw up to 30 degrees about one random axis, and up to 1 about the others."""
    degrees = rng.uniform(0, 1, 3)
    degrees[rng.integers(3)] *= 30
    (sx, sy, sz), (cx, cy, cz) = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    about_x = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_z = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    matrix: NDArray[np.float64] = about_z @ about_y @ about_x
    return matrix.astype(np.float32)


def blur(clip: Clip, sigma: float) -> Clip:
    """Weight neighbouring frames by a Gaussian; beyond the ends, frames count as zero."""
    radius, frames = BLUR_TAPS // 2, clip.shape[1]
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    padded = np.pad(clip, ((0, 0), (radius, radius), (0, 0), (0, 0)))
    result: Clip = weights[0] * padded[:, :frames]
    for tap in range(1, BLUR_TAPS):
        result += weights[tap] * padded[:, tap : tap + frames]
    return result
