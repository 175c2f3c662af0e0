"""skeleton_views beside its reference, eager and compiled, and beside a copy of the same bytes, which bounds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from crrl_fast import reference
from crrl_fast.benchmark.harness import Case, Contender, Outputs
from crrl_fast.ops import sample_view_params, skeleton_views

Op = Callable[..., Outputs]

FRAMES = 50
COORDS = 2 * 25 * 3
"""Bodies, joints and axes of NTU."""

BATCHES = {"cpu": (128,), "cuda": (128, 4096)}
"""The usual batch and, on a GPU, one that outgrows its caches."""

OUT_FRAMES = {"aimclr": FRAMES, "aimclr-strong": FRAMES, "skeleton-contrast": 64}


def cases(device: torch.device) -> Iterator[Case]:
    """Yield the presets, and the costliest of them from a bfloat16 store."""
    for batch in BATCHES[device.type]:
        yield _case(device, "aimclr-strong", batch, torch.float32)
        yield _case(device, "aimclr-strong", batch, torch.bfloat16)
    for preset in ("aimclr", "skeleton-contrast"):
        yield _case(device, preset, BATCHES[device.type][0], torch.float32)


def _case(device: torch.device, preset: str, batch: int, dtype: torch.dtype) -> Case:
    generator = torch.Generator().manual_seed(0)
    clips = 4 * batch
    frames = torch.randn(clips * FRAMES, COORDS, generator=generator).to(device, dtype)
    offsets = torch.arange(0, clips * FRAMES + 1, FRAMES, device=device)
    index = torch.randperm(clips, generator=generator)[:batch].to(device)
    lengths = torch.full((batch,), FRAMES)
    params = sample_view_params(preset, lengths, "ntu25", generator).to(device)
    out_frames = OUT_FRAMES[preset]

    def work(op: Op, frames: Tensor = frames) -> Callable[[], Outputs]:
        return lambda: tuple(op(frames, offsets, index, params, out_frames=out_frames))

    # A view is read once and written twice, as coords and as velocity; a copy reads as much as it writes.
    moved = frames.new_ones(batch * COORDS * (FRAMES + 2 * out_frames) // 2)
    torch.compiler.reset()  # each case is compiled for its own shape, as a program of one shape would have it
    compiled: Op = torch.compile(reference.skeleton_views, fullgraph=True, dynamic=False)
    return Case(
        op="skeleton_views",
        name=f"{preset} ({batch}, {FRAMES}, {COORDS}) {str(dtype).removeprefix('torch.')}",
        contenders=(
            Contender("ours", work(skeleton_views)),
            Contender("PyTorch eager", work(reference.skeleton_views)),
            Contender("torch.compile", work(compiled)),
            Contender("copy of the bytes", lambda: (moved.clone(),), computes_result=False),
        ),
        truth=work(reference.skeleton_views, frames.double()),
        # The result is rounded once; before that, in float32, a coordinate is a sum of about this many products.
        tolerance=torch.finfo(dtype).eps + 16 * torch.finfo(torch.float32).eps,
        batch=batch,
        unit="view",
    )
