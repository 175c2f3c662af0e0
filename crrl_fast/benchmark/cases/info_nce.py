"""queue_info_nce beside its reference, eager and compiled, and beside torch's matrix products alone.

The products bound every loss that is built of them; ours computes its own, tile by tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from crrl_fast import reference
from crrl_fast.benchmark.harness import Case, Contender, Outputs
from crrl_fast.ops import queue_info_nce

Op = Callable[[Tensor, Tensor, Tensor, float], Tensor]

TEMPERATURE = 0.07


class Shape(NamedTuple):
    """Queries of a batch, their size, and keys in the queue."""

    batch: int
    dim: int
    keys: int


SHAPES = (
    Shape(128, 128, 32768),  # AimCLR, CrosSCLR
    Shape(64, 128, 16384),  # CMD, skeleton-contrast
    Shape(512, 128, 65536),  # MoCo's queue, a large batch
    Shape(32, 512, 64),  # CRRL
)


class Inputs(NamedTuple):
    """Unit vectors, each key near its query."""

    query: Tensor
    key: Tensor
    queue: Tensor

    def to(self, dtype: torch.dtype) -> Inputs:
        """Convert all three."""
        return Inputs(*(tensor.to(dtype) for tensor in self))


def draw(shape: Shape, device: torch.device) -> Inputs:
    """Draw unit vectors; a key's cosine with its query is about 0.3, the queue's lie anywhere.

    With a closer key and a short queue the loss would be the small difference of large logits, and its relative error
    that of subtraction.
    """
    generator = torch.Generator().manual_seed(0)
    query, away = (F.normalize(torch.randn(shape.batch, shape.dim, generator=generator), dim=1) for _ in range(2))
    queue = F.normalize(torch.randn(shape.keys, shape.dim, generator=generator), dim=1)
    return Inputs(query.to(device), F.normalize(query + 3 * away, dim=1).to(device), queue.to(device))


def cases(device: torch.device) -> Iterator[Case]:
    """Yield every shape with a queue in float32 and in bfloat16; without a gradient for the first."""
    for dtype in (torch.float32, torch.bfloat16):
        yield _case(device, SHAPES[0], dtype, backward=False)
        for shape in SHAPES:
            yield _case(device, shape, dtype, backward=True)


def _case(device: torch.device, shape: Shape, dtype: torch.dtype, *, backward: bool) -> Case:
    drawn = draw(shape, device)
    inputs = drawn._replace(queue=drawn.queue.to(dtype))
    plain = inputs.to(torch.float32)  # who uses the reference keeps the queue in float32: no conversion is timed
    note = "" if dtype == torch.float32 else "has the bfloat16 queue in float32, converted beforehand"
    torch.compiler.reset()  # each case is compiled for its own shape, as a program of one shape would have it
    compiled: Op = torch.compile(reference.queue_info_nce, fullgraph=True, dynamic=False)
    contenders = [
        Contender("ours", work(queue_info_nce, inputs, backward=backward)),
        Contender("PyTorch eager", work(reference.queue_info_nce, plain, backward=backward), note=note),
        Contender("torch.compile", work(compiled, plain, backward=backward), note=note),
    ]
    if dtype == torch.bfloat16:
        naive = work(_in_bfloat16, inputs, backward=backward)
        contenders.append(Contender("PyTorch eager, all bfloat16", naive))
    products = "2 matrix products" if backward else "1 matrix product"
    bare = matrix_products(inputs, backward=backward)
    contenders.append(Contender(products, bare, computes_result=False, note="torch.mm into outputs that exist"))
    return Case(
        op="queue_info_nce",
        name=f"{'forward+backward' if backward else 'forward'} (B={shape.batch}, D={shape.dim}, K={shape.keys}) "
        f"{str(dtype).removeprefix('torch.')} queue",
        contenders=tuple(contenders),
        truth=work(reference.queue_info_nce, inputs.to(torch.float64), backward=backward),
        tolerance=tolerance(shape, dtype),
    )


def work(op: Op, inputs: Inputs, *, backward: bool) -> Callable[[], Outputs]:
    """Return the loss and, with ``backward``, its gradient by the query, which is what MoCo trains by."""

    def forward() -> Outputs:
        with torch.no_grad():
            return (op(*inputs, TEMPERATURE),)

    def forward_backward() -> Outputs:
        query = inputs.query.detach().requires_grad_()
        loss = op(query, inputs.key, inputs.queue, TEMPERATURE)
        return (loss.detach(), *torch.autograd.grad(loss, query))

    return forward_backward if backward else forward


def matrix_products(inputs: Inputs, *, backward: bool) -> Callable[[], Outputs]:
    """Return the logits of the queue and, with ``backward``, a weighted sum of its keys."""
    query, queue = inputs.query.to(inputs.queue.dtype), inputs.queue
    logits = query.new_empty(len(query), len(queue))
    gradient = torch.empty_like(query)

    def products() -> Outputs:
        torch.mm(query, queue.T, out=logits)
        return (torch.mm(logits, queue, out=gradient),) if backward else (logits,)

    return products


def tolerance(shape: Shape, dtype: torch.dtype) -> float:
    """Return how far rounding may carry the result, relative to its largest value.

    A logit that is off by d multiplies its key's weight by exp(d). In float32 the D terms of a product of unit vectors
    add up rounding like a random walk. In bfloat16 rounding the query moves a product by at most eps / 2 (Cauchy and
    Schwarz), and the naive contender rounds the logit itself, at most 1 / temperature, by as much again.
    """
    steps = math.sqrt(shape.dim) if dtype == torch.float32 else 1.0
    return steps * torch.finfo(dtype).eps / TEMPERATURE


def _in_bfloat16(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Write the loss as one would, with everything cast: the reference itself would compute in float32."""
    query, key = query.bfloat16(), key.bfloat16()
    logits = torch.cat([(query * key).sum(dim=1, keepdim=True), query @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))
