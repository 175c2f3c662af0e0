"""What was drawn for a batch of views: a few small tensors, from which each view can be made again exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class ViewParams(NamedTuple):
    """The augmentation of B views of clips with M bodies of V joints, as ``skeleton_views`` applies it.

    The steps, in this order; one whose field is None is not applied:

    1. Frame t of the view reads its clip at position ``start + t * span / (length - 1)``, a fraction of integers, so
       that end points and whole positions are exact. Between frames it interpolates linearly; outside the clip it
       reads the clip mirrored at its edges, the edge frame repeated (NumPy's ``np.pad(mode="symmetric")``).
    2. ``origin``: each body's joint of that number is subtracted from all its joints.
    3. ``mirror``: joint j takes the place of joint ``partner[j]``.
    4. Each joint is multiplied by ``matrix``, or by ``joint_matrix`` where ``joints`` selects it.
    5. Gaussian noise. Its counter generator is keyed by ``seed`` and counts (clip, frame of the view, joint, axis), so
       it depends neither on the batch around a view nor on the device; a view and its reversal draw the same noise
       for their first frames.
    6. ``blur``: a weighted sum over neighbouring frames of the view.

    Attributes:
        num_joints: V.
        lengths: (B) int64, frames of each view, 0 or more.
        start: (B) int64, position in the clip of a view's first frame; may lie outside.
        span: (B) int64, from there to the position of its last frame; negative reverses time. Unused for one frame.
        partner: (V) int64, each joint's mirror image, itself where it has none.
        mirror: (B) bool; needs ``partner``.
        origin: (B) int64, a joint of the clip, or -1 for none.
        matrix: (B, 3, 3) float32, applied as ``matrix @ xyz``.
        joints: (B, V) bool, on every body alike; needs ``joint_matrix``.
        joint_matrix: (B, 3, 3) float32, in place of ``matrix``; zero hides the joints.
        noise_std: (B, 3) float32, standard deviation on each axis of the view; needs ``seed``.
        seed: (B) int64.
        blur: (B, R + 1) float32, weight of the frames at distance 0 to R, R at most 31; 1, 0, ... leaves a view alone.
        normalize_blur: divide by the weights of the taps inside the view, so that a body at rest stays at rest.
            Otherwise frames outside count as zero and the weights as they are (AimCLR, AS-CAL).
    """

    num_joints: int
    lengths: Tensor
    start: Tensor
    span: Tensor
    partner: Tensor | None = None
    mirror: Tensor | None = None
    origin: Tensor | None = None
    matrix: Tensor | None = None
    joints: Tensor | None = None
    joint_matrix: Tensor | None = None
    noise_std: Tensor | None = None
    seed: Tensor | None = None
    blur: Tensor | None = None
    normalize_blur: bool = True

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> ViewParams:
        """Return the same parameters on another device."""
        return self._map(lambda _, tensor: tensor.to(device, non_blocking=non_blocking))

    def select(self, views: Tensor) -> ViewParams:
        """Return the parameters of some views; ``views`` is what indexes a tensor of B: int64 indices or a (B) mask."""
        return self._map(lambda name, tensor: tensor if name == "partner" else tensor[views])

    def _map(self, change: Callable[[str, Tensor], Tensor]) -> ViewParams:
        changed = {name: change(name, value) for name, value in self._asdict().items() if isinstance(value, Tensor)}
        return ViewParams(**{**self._asdict(), **changed})
