"""The GRU beside ``nn.GRU``, on a GPU beside other packages' GRUs, and beside its matrix products alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence

import torch

from crrl_fast.benchmark.cases.gru import peers
from crrl_fast.benchmark.cases.gru.problem import Problem, Shape, draw
from crrl_fast.benchmark.cases.gru.products import NAME, NOTES, BareProducts
from crrl_fast.benchmark.harness import Case, Contender, Outputs
from crrl_fast.ops import gru

SHAPES = (
    *(
        Shape(2, 256, batch=32, frames=60, input_size=coords, shortest=shortest)  # CRRL on NW-UCLA and on NTU RGB+D
        for coords in (60, 150)
        for shortest in (None, 15)
    ),
    Shape(3, 1024, batch=64, frames=64, input_size=150),  # CMD, skeleton-contrast
    Shape(2, 60, batch=64, frames=60, input_size=512, shortest=15, decoder=True),  # CRRL's, both ways as one batch
)

TF32 = 2.0**-10
"""Distance from 1 to the next number that a GPU's products in float32 distinguish, as stock PyTorch has them."""

LONG_HIDDEN = 1024
"""From this size on, a call takes seconds on a CPU."""


def case_names() -> list[str]:
    """Return the names of all cases, in their order."""
    return [name for shape in SHAPES for name in _names(shape)]


def _names(shape: Shape) -> dict[str, tuple[torch.dtype, bool]]:
    """Return every case of a shape by name: its precision, and whether it has a backward."""
    return {
        f"{'forward+backward' if backward else 'inference'} {shape.name} {str(precision).removeprefix('torch.')}": (
            precision,
            backward,
        )
        for precision in (torch.float32, torch.bfloat16)
        for backward in (True, False)
    }


def cases(
    device: torch.device,
    *,
    only: str = "",
    packages: Collection[str] = (),
    on_skip: Callable[[str], None] = lambda line: None,
) -> Iterator[Case]:
    """Yield the cases whose name contains ``only``; ``on_skip`` sees why one of the ``packages`` is not in a case."""
    for shape in SHAPES:
        chosen = {name: key for name, key in _names(shape).items() if only in name}
        if chosen:
            problem = draw(shape, device)
            for name, (precision, backward) in chosen.items():
                others = list(peers.contenders(problem, precision, packages, on_skip, backward=backward))
                yield _case(name, problem, precision, others, backward=backward)


def _case(name: str, problem: Problem, precision: torch.dtype, others: Sequence[Contender], *, backward: bool) -> Case:
    shape, device = problem.shape, problem.x.device

    def stock(precision: torch.dtype) -> Callable[[], Outputs]:
        return problem.work(lambda: problem.stock(precision), backward=backward)

    autocast = "under autocast" if precision == torch.bfloat16 else ""
    contenders = [
        Contender("ours", problem.work(lambda: ours(problem, precision), backward=backward)),
        Contender("nn.GRU", stock(precision), note="; ".join(filter(None, (autocast, "packed where ragged")))),
    ]
    if precision == torch.bfloat16:
        contenders.append(Contender("nn.GRU float32", stock(torch.float32)))
    contenders += others
    bare = BareProducts(shape, problem.frame_counts, precision, device)
    contenders.append(Contender(NAME, bare.work(backward=backward), computes_result=False, note=NOTES[device.type]))
    return Case(
        op="gru",
        name=name,
        contenders=tuple(contenders),
        truth=lambda: problem.truth if backward else problem.truth[: len(problem.cotangents)],
        tolerance=tolerance(problem, precision),
        naive="nn.GRU" if precision == torch.bfloat16 else "",
        slack=torch.finfo(precision).eps,  # the last rounding is anybody's
        long=shape.hidden >= LONG_HIDDEN and device.type == "cpu",
    )


def ours(problem: Problem, precision: torch.dtype) -> Outputs:
    """Compute the results with our op, which materialises all outputs for a decoder only."""
    shape = problem.shape
    found = gru(
        problem.x,
        list(problem.module.parameters()),
        problem.lengths,
        num_layers=shape.layers,
        bidirectional=not shape.decoder,
        frames=shape.frames if shape.decoder else None,
        return_outputs=shape.decoder,
        products=precision,
    )
    if not shape.decoder:
        return found.mean, found.first, found.last
    assert found.outputs is not None
    return (found.outputs,)


def tolerance(problem: Problem, precision: torch.dtype) -> float:
    """Return how far rounding may carry a result or a gradient, relative to its largest value.

    Every step rounds the state that it hands on, and every layer hands on what it made of that: over the frames the
    roundings add up like a random walk. In stock PyTorch a GPU multiplies in TF32, which has 10 bits after the point.
    """
    rounding = torch.finfo(precision).eps
    if problem.x.is_cuda and torch.backends.cudnn.allow_tf32:
        rounding = max(rounding, TF32)
    return rounding * math.sqrt(problem.shape.frames) * problem.shape.layers
