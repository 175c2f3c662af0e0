"""GRUs of other packages, for a GPU: flashrnn (NXAI) and haste (LMNT).

Both compute one layer at a time, haste in one direction. Their weights are in their own form, made beforehand, and so
are the gradients that are checked. A clip is reversed within its length by gathering its frames.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from importlib.metadata import version

import torch
from torch import Tensor, nn

from crrl_fast.benchmark.cases.gru.problem import Problem
from crrl_fast.benchmark.harness import Contender, Outputs
from crrl_fast.benchmark.packages import why_missing

PACKAGES = {"flashrnn": "flashrnn", "haste-pytorch": "haste_pytorch"}
"""What each is imported as."""

PRECISIONS = {"flashrnn": (torch.float32, torch.bfloat16), "haste-pytorch": (torch.float32,)}

Weights = tuple[Tensor, ...]
"""Of one layer, or the gradients by them. In the form of ``nn.GRU``: w_ih, w_hh, b_ih, b_hh of each direction."""

Layer = Callable[[int, Tensor], Tensor]
"""From a layer's number and (B, T, D) inputs, or (B, D) of a decoder, to (B, T, directions, hidden) outputs."""


def installed(on_skip: Callable[[str], None]) -> dict[str, str]:
    """Return the versions of the packages that can be imported; ``on_skip`` sees why another cannot."""
    found = {}
    for package, module in PACKAGES.items():
        reason = why_missing(package, module)
        if reason:
            on_skip(f"{package}: {reason}")
        else:
            found[package] = version(package)
    return found


def contenders(
    problem: Problem,
    precision: torch.dtype,
    packages: Collection[str],
    on_skip: Callable[[str], None],
    *,
    backward: bool,
) -> Iterator[Contender]:
    """Yield those of the packages that compute in this precision; ``on_skip`` sees why one cannot compute at all."""
    makers: dict[str, Callable[[], Contender]] = {
        "flashrnn": lambda: flashrnn(problem, precision, backward=backward),
        "haste-pytorch": lambda: haste(problem, backward=backward),
    }
    for package in packages:
        if precision in PRECISIONS[package]:
            try:
                made = makers[package]()
                made.run()
            except Exception as error:  # both compile or load kernels of their own, which fails in ways of their own
                on_skip(f"{package}, {problem.shape.name}: {' '.join(str(error).split())}")
            else:
                yield made


def flashrnn(problem: Problem, precision: torch.dtype, *, backward: bool, backend: str = "cuda") -> Contender:
    """Return flashrnn, whose heads are the two directions; of a GRU it has no ``cuda_fused`` kernel."""
    from flashrnn import flashrnn as run

    shape = problem.shape
    dtype = str(precision).removeprefix("torch.")

    def form(layer: Weights, *, gradient: bool) -> Weights:
        w_ih, w_hh, b_ih, b_hh = (torch.stack(layer[kind::4]) for kind in range(4))
        # Recurrent gates n, r, z; biases: n of the state, r, z, n of the input; each (gates, heads, ...).
        r, z, n = w_hh.chunk(3, dim=1)
        input_r, input_z, input_n = b_ih.chunk(3, dim=1)
        hidden_r, hidden_z, hidden_n = b_hh.chunk(3, dim=1)
        # r and z have one bias, the sum of both; the gradient by the sum is that by either.
        sums = (input_r, input_z) if gradient else (input_r + hidden_r, input_z + hidden_z)
        return w_ih.flatten(0, 1), torch.stack([n, r, z]), torch.stack([hidden_n, *sums, input_n])

    weights = _own(problem, form)

    def layer(number: int, inputs: Tensor) -> Tensor:
        w_ih, recurrent, bias = weights[number]
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
            projected = (inputs @ w_ih.T).unflatten(-1, (shape.directions, 3, shape.hidden)).transpose(-2, -3)
        if number == 0 and shape.decoder:
            projected = projected[:, None].expand(-1, shape.frames, -1, -1, -1)
        elif not shape.decoder:
            forward, reverse = projected.unbind(dim=3)
            projected = torch.stack([forward, _reversed(problem, reverse)], dim=3)
        states, _ = run(
            projected, recurrent.to(precision), bias.to(precision), function="gru", backend=backend, dtype=dtype
        )
        outputs: Tensor = states[0]
        if not shape.decoder:
            outputs = torch.stack([outputs[:, :, 0], _reversed(problem, outputs[:, :, 1])], dim=2)
        return outputs

    note = "its kernel for the recurrence, torch's products for the projections"
    return _contender(problem, "flashrnn", form, weights, layer, note, backward=backward)


def haste(problem: Problem, *, backward: bool) -> Contender:
    """Return haste's GRU, called once a layer and direction."""
    import haste_pytorch

    shape = problem.shape

    def gates(weight: Tensor) -> Tensor:
        r, z, n = weight.chunk(3)
        return torch.cat([z, r, n]).t().contiguous()

    def form(layer: Weights, *, gradient: bool) -> Weights:
        return tuple(gates(weight) for weight in layer)

    weights = _own(problem, form)
    modules: list[list[nn.Module]] = []
    for number, layer_weights in enumerate(weights):
        width = shape.input_size if number == 0 else shape.directions * shape.hidden
        modules.append([haste_pytorch.GRU(width, shape.hidden, batch_first=True) for _ in range(shape.directions)])
        for direction, module in enumerate(modules[-1]):
            names = ("kernel", "recurrent_kernel", "bias", "recurrent_bias")
            for name, weight in zip(names, layer_weights[4 * direction :], strict=False):
                setattr(module, name, weight)

    def layer(number: int, inputs: Tensor) -> Tensor:
        if number == 0 and shape.decoder:
            inputs = inputs[:, None].expand(-1, shape.frames, -1)
        outputs = [modules[number][0](inputs)[0]]
        if not shape.decoder:
            outputs.append(_reversed(problem, modules[number][1](_reversed(problem, inputs))[0]))
        return torch.stack(outputs, dim=2)

    note = "each direction and layer is a call of its own"
    return _contender(problem, "haste", form, weights, layer, note, backward=backward)


Form = Callable[..., Weights]


def _by_layer(problem: Problem, weights: Sequence[Tensor]) -> Iterator[Weights]:
    size = 4 * problem.shape.directions
    for number in range(problem.shape.layers):
        yield tuple(weights[number * size : (number + 1) * size])


def _own(problem: Problem, form: Form) -> list[Weights]:
    """Return the problem's weights in another form, to be differentiated by."""
    plain = [weight.detach() for weight in problem.module.parameters()]
    return [
        tuple(nn.Parameter(weight) for weight in form(layer, gradient=False)) for layer in _by_layer(problem, plain)
    ]


def _contender(
    problem: Problem, name: str, form: Form, weights: list[Weights], layer: Layer, note: str, *, backward: bool
) -> Contender:
    x = problem.leaves[-1:] if problem.shape.decoder else []
    leaves = [*(weight for layer_weights in weights for weight in layer_weights), *x]

    def forward() -> Outputs:
        outputs = problem.x
        for number in range(problem.shape.layers):
            outputs = layer(number, outputs).flatten(2)
        return problem.results(outputs if problem.padding is None else outputs.masked_fill(problem.padding, 0))

    def truth() -> Outputs:
        exact, results = problem.truth, len(problem.cotangents)
        if not backward:
            return exact[:results]
        gradients = exact[results:]
        own = [part for by in _by_layer(problem, gradients) for part in form(by, gradient=True)]
        return (*exact[:results], *own, *gradients[len(gradients) - len(x) :])

    run = problem.work(forward, leaves, backward=backward)
    return Contender(name, run, truth=truth, note=note)


def _reversed(problem: Problem, frames: Tensor) -> Tensor:
    """Reverse the valid frames of (B, T, ...)."""
    if problem.lengths is None:
        return frames.flip(1)
    index = problem.reversal.reshape(*problem.reversal.shape, *(1,) * (frames.dim() - 2))
    return frames.gather(1, index.expand_as(frames))
