"""Augmented views of skeleton clips in plain PyTorch: the specification of ``crrl_fast.ops.skeleton_views``."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from crrl_fast.reference.motion_diff import DTYPES, motion_diff
from crrl_fast.reference.philox import normals, philox
from crrl_fast.views.params import ViewParams

MAX_TAPS = 32
"""The most weights that ``ViewParams.blur`` may have: a kernel of 63 frames."""


class SkeletonViews(NamedTuple):
    """Views of a batch of clips.

    Attributes:
        coords: (B, T, D), zero after each view's end.
        velocity: (B, T, D), ``coords[:, t + 1] - coords[:, t]``, zero at the last valid frame and after it.
        lengths: (B) int64, valid frames.
    """

    coords: Tensor
    velocity: Tensor
    lengths: Tensor


def check_inputs(frames: Tensor, offsets: Tensor, index: Tensor, params: ViewParams) -> None:
    """Raise for shapes, dtypes and devices that skeleton_views does not take; values are not looked at."""
    if frames.dim() != 2:
        raise ValueError(f"skeleton_views: frames must have shape [F, D], got {list(frames.shape)}")
    if frames.dtype not in DTYPES:
        raise TypeError(f"skeleton_views: frames must be float32, float64, float16 or bfloat16, got {_name(frames)}")
    if frames.requires_grad:
        raise ValueError("skeleton_views: frames must not require grad: the op is not differentiable")
    joints = params.num_joints
    if joints < 1 or frames.shape[1] % (3 * joints) != 0 or frames.shape[1] == 0:
        raise ValueError(
            f"skeleton_views: frames must have a multiple of {joints} joints * 3 columns, got {frames.shape[1]}"
        )
    if offsets.dim() != 1 or offsets.shape[0] < 1:
        raise ValueError(f"skeleton_views: offsets must have shape [N + 1], got {list(offsets.shape)}")
    if index.numel() > 0 and offsets.shape[0] < 2:
        raise ValueError("skeleton_views: offsets must name at least one clip, got none")
    _check_params(frames.device, offsets, index, params)


def count_frames(params: ViewParams, out_frames: int | None) -> int:
    """Return T: what is asked for, or the longest view, for which a GPU must be waited for."""
    if out_frames is None:
        return int(params.lengths.max()) if params.lengths.numel() > 0 else 0
    if out_frames < 0:
        raise ValueError(f"skeleton_views: out_frames must be 0 or more, got {out_frames}")
    return out_frames


def skeleton_views(
    frames: Tensor, offsets: Tensor, index: Tensor, params: ViewParams, *, out_frames: int | None = None
) -> SkeletonViews:
    """Make one augmented view of each of B clips, with its velocity.

    What each parameter does, and in which order, is in ``ViewParams``; ``sample_view_params`` draws them. The sources
    of the augmentations are in ``crrl_fast.views.presets``.

    Args:
        frames: (F, D) float32, float64, float16 or bfloat16, all clips end to end; D = bodies * joints * 3.
        offsets: (N + 1) int64; clip i is ``frames[offsets[i]:offsets[i + 1]]``.
        index: (B) int64, the clip of each view.
        params: the parameters of the B views, on the device of frames.
        out_frames: T, frames of the result; None: of the longest view, which on a GPU costs a synchronisation.

    Returns:
        Coords and velocity (B, T, D) in the dtype of frames, and lengths (B). It is computed in float32 (float64 for
        float64) and rounded once, so the velocity is that of the coords before they are rounded.

    Raises:
        TypeError: a tensor has another dtype.
        ValueError: a tensor has another shape or device, or frames requires grad. On the CPU also: an index, offset,
            length, joint number or partner out of range, a clip without frames, a view longer than ``out_frames``;
            elsewhere these are clamped, and the view of a clip without frames is zero.
    """
    check_inputs(frames, offsets, index, params)
    total = count_frames(params, out_frames)
    if frames.device.type == "cpu" and not torch.compiler.is_compiling():
        _check_values(frames, offsets, index, params, total)
    lengths = params.lengths.clamp(0, total)
    if len(index) == 0 or total == 0 or len(frames) == 0:
        empty = frames.new_zeros(len(index), total, frames.shape[1])
        return SkeletonViews(empty, empty.clone(), lengths)
    wide = torch.float64 if frames.dtype == torch.float64 else torch.float32
    clip = index.clamp(0, len(offsets) - 2)
    first = offsets[clip].clamp(0, len(frames))
    count = offsets[clip + 1].clamp(0, len(frames)) - first

    time = torch.arange(total, device=frames.device)
    valid = (time < lengths[:, None]) & (count > 0)[:, None]
    x = _resample(frames, first, count.clamp(min=1), total, params).to(wide)
    x = x.unflatten(2, (-1, params.num_joints, 3))  # (B, T, M, V, 3)
    x = _move_joints(x, params)
    if params.noise_std is not None and params.seed is not None:
        x = x + params.noise_std[:, None, None, None, :].to(wide) * _noise(x, clip, params.seed).to(wide)
    x = x.flatten(2)
    zero = torch.zeros((), dtype=wide, device=x.device)
    x = torch.where(valid[:, :, None], x, zero)
    if params.blur is not None:
        x = torch.where(valid[:, :, None], _blur(x, valid, params.blur.to(wide), params.normalize_blur), zero)
    return SkeletonViews(x.to(frames.dtype), motion_diff(x, lengths).to(frames.dtype), lengths)


def _resample(frames: Tensor, first: Tensor, count: Tensor, total: int, params: ViewParams) -> Tensor:
    """Return (B, T, D): each view's frames before anything else is done to them."""
    time = torch.arange(total, device=frames.device)
    steps = (params.lengths - 1).clamp(min=1)[:, None]
    travelled = torch.minimum(time, steps) * params.span[:, None]
    whole = torch.div(travelled, steps, rounding_mode="floor")
    part = travelled - whole * steps

    def at(position: Tensor) -> Tensor:
        position = torch.remainder(position, 2 * count[:, None])
        position = torch.where(position < count[:, None], position, 2 * count[:, None] - 1 - position)
        row = frames[(first[:, None] + position).clamp(max=len(frames) - 1)]
        return row if row.dtype == torch.float64 else row.float()

    whole = whole + params.start[:, None]
    earlier, later = at(whole), at(whole + (part > 0))
    weight: Tensor = part.to(earlier.dtype) / steps
    return torch.lerp(earlier, later, weight[:, :, None])


def _move_joints(x: Tensor, params: ViewParams) -> Tensor:
    """Subtract the origin, mirror, and multiply by the matrices. x: (B, T, M, V, 3)."""
    if params.origin is not None:
        last = params.num_joints - 1
        joint = params.origin.clamp(0, last)[:, None, None, None, None].expand(*x.shape[:3], 1, 3)
        has_origin = (params.origin >= 0)[:, None, None, None, None]
        x = torch.where(has_origin, x - x.gather(3, joint), x)
    if params.mirror is not None and params.partner is not None:
        partner = params.partner.clamp(0, params.num_joints - 1)
        x = torch.where(params.mirror[:, None, None, None, None], x[:, :, :, partner], x)

    def times(matrix: Tensor) -> Tensor:
        product: Tensor = torch.einsum("bij,btmvj->btmvi", matrix.to(x.dtype), x)
        return product

    moved = x if params.matrix is None else times(params.matrix)
    if params.joints is not None and params.joint_matrix is not None:
        moved = torch.where(params.joints[:, None, None, :, None], times(params.joint_matrix), moved)
    return moved


def _noise(x: Tensor, clip: Tensor, seed: Tensor) -> Tensor:
    """Return standard normals for x (B, T, M, V, 3): the counter is joint of all bodies, frame, clip in two halves."""
    _, frames, bodies, joints, _ = x.shape
    joint = torch.arange(bodies * joints, device=x.device)
    frame = torch.arange(frames, device=x.device)[:, None]
    low, high = (part[:, None, None] for part in (clip & 0xFFFFFFFF, clip >> 32))
    values: Tensor = normals(philox((joint, frame, low, high), seed[:, None, None])).unflatten(2, (bodies, joints))
    return values


def _blur(x: Tensor, valid: Tensor, blur: Tensor, normalize: bool) -> Tensor:
    """Weight the frames at each distance; x (B, T, D) is zero where a frame is not valid."""
    radius = blur.shape[1] - 1
    kernel = torch.cat([blur[:, 1:].flip(1), blur], dim=1)  # (B, 2 R + 1)

    def convolve(values: Tensor) -> Tensor:
        windows = F.pad(values, (0, 0, radius, radius)).unfold(1, 2 * radius + 1, 1)
        result: Tensor = torch.einsum("btdk,bk->btd", windows, kernel)
        return result

    total = convolve(x)
    if normalize:
        total = total / convolve(valid[:, :, None].to(x.dtype))
    return total


def _check_params(device: torch.device, offsets: Tensor, index: Tensor, params: ViewParams) -> None:
    joints, views = params.num_joints, index.numel()
    int64, float32 = torch.int64, torch.float32
    taps = params.blur.shape[-1] if params.blur is not None and params.blur.dim() == 2 else 1
    if not 1 <= taps <= MAX_TAPS:
        raise ValueError(f"skeleton_views: blur must have 1 to {MAX_TAPS} weights, got {taps}")
    expected = {
        "offsets": (offsets, int64, list(offsets.shape)),
        "index": (index, int64, [views]),
        "lengths": (params.lengths, int64, [views]),
        "start": (params.start, int64, [views]),
        "span": (params.span, int64, [views]),
        "partner": (params.partner, int64, [joints]),
        "mirror": (params.mirror, torch.bool, [views]),
        "origin": (params.origin, int64, [views]),
        "matrix": (params.matrix, float32, [views, 3, 3]),
        "joints": (params.joints, torch.bool, [views, joints]),
        "joint_matrix": (params.joint_matrix, float32, [views, 3, 3]),
        "noise_std": (params.noise_std, float32, [views, 3]),
        "seed": (params.seed, int64, [views]),
        "blur": (params.blur, float32, [views, taps]),
    }
    for name, (tensor, dtype, shape) in expected.items():
        if tensor is None:
            continue
        if tensor.dtype != dtype:
            raise TypeError(f"skeleton_views: {name} must be {str(dtype).removeprefix('torch.')}, got {_name(tensor)}")
        if list(tensor.shape) != shape:
            raise ValueError(f"skeleton_views: {name} must have shape {shape}, got {list(tensor.shape)}")
        if tensor.device != device:
            raise ValueError(f"skeleton_views: {name} must be on {device}, got {tensor.device}")
    for name, needed in (("mirror", "partner"), ("joints", "joint_matrix"), ("noise_std", "seed")):
        if getattr(params, name) is not None and getattr(params, needed) is None:
            raise ValueError(f"skeleton_views: {name} is given without {needed}")


def _check_values(frames: Tensor, offsets: Tensor, index: Tensor, params: ViewParams, total: int) -> None:
    clips, joints = len(offsets) - 1, params.num_joints
    for view, (clip, length) in enumerate(zip(index.tolist(), params.lengths.tolist(), strict=True)):
        if not 0 <= clip < clips:
            raise ValueError(f"skeleton_views: index[{view}] = {clip} is outside [0, {clips})")
        first, end = offsets[clip : clip + 2].tolist()
        if not 0 <= first <= end <= len(frames):
            raise ValueError(
                f"skeleton_views: offsets[{clip}] = {first} and offsets[{clip + 1}] = {end} do not rise within "
                f"[0, {len(frames)}]"
            )
        if first == end:
            raise ValueError(f"skeleton_views: index[{view}] = {clip} is a clip without frames")
        if not 0 <= length <= total:
            raise ValueError(f"skeleton_views: lengths[{view}] = {length} is outside [0, {total}]")
    for name, tensor, low in (("partner", params.partner, 0), ("origin", params.origin, -1)):
        for position, joint in enumerate([] if tensor is None else tensor.tolist()):
            if not low <= joint < joints:
                raise ValueError(f"skeleton_views: {name}[{position}] = {joint} is outside [{low}, {joints})")


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
