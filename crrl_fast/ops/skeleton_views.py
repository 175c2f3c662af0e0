"""Augmented views of skeleton clips, and their velocity, in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from crrl_fast import _ext
from crrl_fast.reference import skeleton_views as reference
from crrl_fast.reference.skeleton_views import SkeletonViews, check_inputs, count_frames
from crrl_fast.views.params import ViewParams


def skeleton_views(
    frames: Tensor, offsets: Tensor, index: Tensor, params: ViewParams, *, out_frames: int | None = None
) -> SkeletonViews:
    """Make one augmented view of each of B clips, with its velocity, in one pass over the packed frames.

    What each parameter does, and in which order, is in ``ViewParams``; ``sample_view_params`` draws them. The sources
    of the augmentations are in ``crrl_fast.views.presets``. The same parameters give the same view on every device, to
    float rounding, and the same bits on the same one. Under ``torch.compile`` give ``out_frames``.

    Args:
        frames: (F, D) float32, float64, float16 or bfloat16, all clips end to end; D = bodies * joints * 3. Rows may be
            strided; a tensor whose rows are not contiguous in themselves is copied whole at every call.
        offsets: (N + 1) int64; clip i is ``frames[offsets[i]:offsets[i + 1]]``.
        index: (B) int64, the clip of each view.
        params: the parameters of the B views, on the device of frames.
        out_frames: T, frames of the result; None: of the longest view, which on a GPU costs a synchronisation.

    Returns:
        Coords and velocity (B, T, D) in the dtype of frames, and lengths (B). It is computed in float32 (float64 for
        float64) and rounded once, so the velocity is that of the coords before they are rounded. Not differentiable.

    Raises:
        TypeError: a tensor has another dtype.
        ValueError: a tensor has another shape or device, or frames requires grad. On the CPU also: an index, offset,
            length, joint number or partner out of range, a clip without frames, a view longer than ``out_frames``;
            elsewhere these are clamped, and the view of a clip without frames is zero.
    """
    if frames.device.type not in _ext.device_types:
        return reference(frames, offsets, index, params, out_frames=out_frames)
    if frames.requires_grad:
        raise ValueError("skeleton_views: frames must not require grad: the op is not differentiable")
    total = count_frames(params, out_frames)
    coords, velocity = torch.ops.crrl_fast.skeleton_views(frames, offsets, index, *params, total)
    return SkeletonViews(coords, velocity, params.lengths.clamp(0, total))


def _fake(frames: Tensor, offsets: Tensor, index: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
    *params, out_frames = rest
    check_inputs(frames, offsets, index, ViewParams(*params))  # type: ignore[arg-type]
    shape = (index.shape[0], out_frames, frames.shape[1])
    return frames.new_empty(shape), frames.new_empty(shape)  # type: ignore[arg-type]


if _ext.available:
    torch.library.register_fake("crrl_fast::skeleton_views", _fake)
