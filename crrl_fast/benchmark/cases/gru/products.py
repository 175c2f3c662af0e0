"""The matrix products that a GRU cannot do without, alone: the yardstick.

Counted are those of valid frames. A clip's first frame has no recurrent product, its state being 0; the gradient of x
is computed only where it is asked for; one vector a clip is projected once a clip. All operands exist beforehand and
have the layout that torch multiplies fastest: the frames of one step side by side, as in a PackedSequence.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import NamedTuple

import torch
from torch import Tensor

from crrl_fast.benchmark.cases.gru.problem import Shape
from crrl_fast.benchmark.harness import Outputs

NAME = "bare matrix products"
NOTES = {
    "cpu": "torch.mm of valid frames into outputs that exist, sequence-wide ones with all threads, recurrent ones "
    "frame by frame with a direction (or a part of its clips) a core",
    "cuda": "torch.mm of valid frames into outputs that exist, in one CUDA graph, recurrent ones frame by frame with a "
    "direction a stream",
}

FEWEST_CLIPS = 16
"""A direction's clips are not spread over more cores than leaves each so many."""


class Product(NamedTuple):
    """``out = left @ right``."""

    left: Tensor
    right: Tensor
    out: Tensor


Chain = Sequence[Product]
"""Products of which each needs the one before."""

Stage = Sequence[Chain]
"""Chains that do not need each other; alone, a chain may use the whole device."""


class BareProducts:
    """The products of a forward and a backward in one precision; ``counts`` are the valid frames of every clip."""

    def __init__(self, shape: Shape, counts: Sequence[int], precision: torch.dtype, device: torch.device) -> None:
        self._device = device
        layers = [_Layer(shape, counts, layer, precision, device) for layer in range(shape.layers)]
        self._forward = [stage for layer in layers for stage in layer.forward()]
        self._backward = [stage for layer in reversed(layers) for stage in layer.backward()]

    def work(self, *, backward: bool) -> Callable[[], Outputs]:
        """Return what multiplies all; it has no result."""
        stages = [*self._forward, *(self._backward if backward else [])]
        multiply = _graph(stages, self._device) if self._device.type == "cuda" else functools.partial(_on_cpu, stages)

        def products() -> Outputs:
            multiply()
            return ()

        return products


class _Layer:
    """One layer's operands. Gates are 3 * hidden wide, in every direction."""

    def __init__(
        self, shape: Shape, counts: Sequence[int], layer: int, precision: torch.dtype, device: torch.device
    ) -> None:
        generator = torch.Generator(device).manual_seed(layer)

        def draw(rows: int, columns: int) -> Tensor:
            return torch.randn(rows, columns, generator=generator, device=device).to(precision)

        def empty(rows: int, columns: int) -> Tensor:
            return torch.empty(rows, columns, dtype=precision, device=device)

        self._empty = empty
        self._hidden, self._gates = shape.hidden, 3 * shape.hidden
        clips = [count for count in sorted(counts, reverse=True) if count]
        is_first = layer == 0
        rows = shape.batch if is_first and shape.decoder else sum(clips)
        width = shape.input_size if is_first else shape.directions * shape.hidden
        self._inputs = draw(rows, width)
        self._w_ih = draw(shape.directions * self._gates, width)
        self._grad_projected = draw(rows, shape.directions * self._gates)
        self._asks_inputs = shape.decoder or not is_first
        # The frames that have one before them.
        later = sum(clips) - len(clips)
        self._w_hh = [draw(self._gates, shape.hidden) for _ in range(shape.directions)]
        self._states = [draw(later, shape.hidden) for _ in range(shape.directions)]
        self._grad_recurrent = [draw(later, self._gates) for _ in range(shape.directions)]
        self._parts = [clips[part :: _parts(shape, device)] for part in range(_parts(shape, device))]

    def forward(self) -> Iterator[Stage]:
        projected = self._empty(len(self._inputs), len(self._w_ih))
        yield [[Product(self._inputs, self._w_ih.T, projected)]]
        yield self._recurrent(self._states, [weight.T for weight in self._w_hh])

    def backward(self) -> Iterator[Stage]:
        # As in the forward, the weight's columns lie side by side: few rows are multiplied fastest so.
        weights = [weight.T.contiguous().T for weight in self._w_hh]
        yield [list(reversed(chain)) for chain in self._recurrent(self._grad_recurrent, weights)]
        wide = [Product(self._grad_projected.T, self._inputs, torch.empty_like(self._w_ih))]
        for grad, states in zip(self._grad_recurrent, self._states, strict=True):
            wide.append(Product(grad.T, states, self._empty(self._gates, self._hidden)))
        if self._asks_inputs:
            wide.append(Product(self._grad_projected, self._w_ih, torch.empty_like(self._inputs)))
        yield [wide]

    def _recurrent(self, operands: Sequence[Tensor], weights: Sequence[Tensor]) -> Stage:
        """Multiply frame by frame, with the clips that go on; both directions see as many of them at a step."""
        chains = []
        for operand, weight in zip(operands, weights, strict=True):
            out = self._empty(len(operand), weight.shape[1])
            row = 0
            for clips in self._parts:
                chain = []
                for step in range(1, max(clips, default=0)):
                    going_on = sum(count > step for count in clips)
                    rows = slice(row, row + going_on)
                    chain.append(Product(operand[rows], weight, out[rows]))
                    row += going_on
                chains.append(chain)
        return chains


def _parts(shape: Shape, device: torch.device) -> int:
    """Return into how many parts a direction's clips are divided."""
    cores = torch.get_num_threads() if device.type == "cpu" else 1
    return max(1, min(cores // shape.directions, shape.batch // FEWEST_CLIPS))


def _multiply(chain: Chain) -> None:
    for left, right, out in chain:
        torch.mm(left, right, out=out)


def _on_cpu(stages: Sequence[Stage]) -> None:
    threads = torch.get_num_threads()
    for stage in stages:
        if len(stage) == 1 or threads == 1:
            for chain in stage:
                _multiply(chain)
        else:
            list(_workers(threads).map(_multiply, stage))


@functools.cache
def _workers(count: int) -> ThreadPoolExecutor:
    """Return threads in each of which torch uses one core."""
    threads = torch.get_num_threads()
    started = Barrier(count)

    def start() -> None:
        torch.get_num_threads()  # a thread's first look takes over what was set last anywhere: let that be past
        torch.set_num_threads(1)
        started.wait()

    workers = ThreadPoolExecutor(count, initializer=start)
    list(workers.map(_multiply, [()] * count))
    torch.set_num_threads(threads)  # for threads to come; those that run keep their own count
    return workers


def _graph(stages: Sequence[Stage], device: torch.device) -> Callable[[], None]:
    """Return the replay of a CUDA graph: launched one by one, the small products would wait for the host."""
    streams = [torch.cuda.Stream(device) for _ in range(max(map(len, stages)))]

    def enqueue() -> None:
        main = torch.cuda.current_stream(device)
        for stage in stages:
            if len(stage) == 1:
                _multiply(stage[0])
                continue
            for chain, stream in zip(stage, streams, strict=False):
                stream.wait_stream(main)
                with torch.cuda.stream(stream):
                    _multiply(chain)
            for stream in streams[: len(stage)]:
                main.wait_stream(stream)

    graph = torch.cuda.CUDAGraph()
    enqueue()  # outside of the capture first: cuBLAS allocates at its first call
    torch.cuda.synchronize(device)
    with torch.cuda.graph(graph):
        enqueue()

    def replay(_operands: Sequence[Stage] = stages) -> None:  # the graph knows addresses, and keeps nothing alive
        graph.replay()

    return replay
