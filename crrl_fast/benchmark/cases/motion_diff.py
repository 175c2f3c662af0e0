"""motion_diff beside its reference, eager and compiled, and beside a copy of the same bytes, which bounds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from crrl_fast import reference
from crrl_fast.benchmark.harness import Case, Contender, Outputs
from crrl_fast.ops import motion_diff

Op = Callable[[Tensor, Tensor | None], Tensor]

NTU_COORDS = 150
TRAINING_BATCH = (128, 64)
LARGE_BATCH = {"cpu": (256, 300), "cuda": (4096, 300)}
"""Clips and frames that outgrow the caches of the device, so that its memory is what is measured."""


def cases(device: torch.device) -> Iterator[Case]:
    """Yield forward and backward, dense and ragged, in and out of cache."""
    large = LARGE_BATCH[device.type]
    for dtype in (torch.float32, torch.bfloat16):
        yield _case(device, dtype, TRAINING_BATCH, ragged=True, backward=False)
        yield _case(device, dtype, TRAINING_BATCH, ragged=True, backward=True)
        yield _case(device, dtype, large, ragged=False, backward=False)


def _case(device: torch.device, dtype: torch.dtype, batch: tuple[int, int], *, ragged: bool, backward: bool) -> Case:
    clips, frames = batch
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(clips, frames, NTU_COORDS, generator=generator).to(device, dtype)
    lengths = torch.randint(1, frames + 1, (clips,), generator=generator).to(device) if ragged else None

    def work(op: Op, x: Tensor = x) -> Callable[[], Outputs]:
        if not backward:
            return lambda: (op(x, lengths),)
        grad = torch.linspace(-1, 1, x.numel(), device=device).reshape(x.shape).to(dtype).to(x.dtype)

        def forward_backward() -> Outputs:
            leaf = x.detach().requires_grad_()
            y = op(leaf, lengths)
            return (y.detach(), *torch.autograd.grad(y, leaf, grad))

        return forward_backward

    def copy() -> Outputs:
        return tuple(x.clone() for _ in range(1 + backward))

    torch.compiler.reset()  # each case is compiled for its own shape, as a program of one shape would have it
    compiled: Op = torch.compile(reference.motion_diff, fullgraph=True, dynamic=False)
    return Case(
        op="motion_diff",
        name=f"{'forward+backward' if backward else 'forward'} ({clips}, {frames}, {NTU_COORDS}) "
        f"{str(dtype).removeprefix('torch.')}{' ragged' if ragged else ''}",
        contenders=(
            Contender("ours", work(motion_diff)),
            Contender("PyTorch eager", work(reference.motion_diff)),
            Contender("torch.compile", work(compiled)),
            Contender("copy of the bytes", copy, computes_result=False),
        ),
        truth=work(reference.motion_diff, x.double()),
        tolerance=torch.finfo(dtype).eps,
    )
