"""Batches for the tests of the GRU, and nn.GRU over packed sequences as their truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from crrl_fast.reference import GruOutput


@dataclass(frozen=True)
class Case:
    """One batch and one GRU."""

    hidden: int
    clips: int
    frames: int
    width: int
    layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    ragged: bool = True
    constant: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """What the op takes besides tensors."""
        frames = self.frames if self.constant else None
        return {"num_layers": self.layers, "bidirectional": self.bidirectional, "frames": frames}

    @property
    def directions(self) -> int:
        """1 or 2."""
        return 2 if self.bidirectional else 1

    def make(self, seed=0):
        """Return float64 x, weights and lengths (or None)."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*size, scale=1.0):
            return scale * torch.randn(*size, generator=generator, dtype=torch.float64)

        x = normal(self.clips, *(() if self.constant else (self.frames,)), self.width)
        weights = []
        for layer in range(self.layers):
            width = self.width if layer == 0 else self.directions * self.hidden
            for _ in range(self.directions):
                weights.append(normal(3 * self.hidden, width, scale=width**-0.5))
                weights.append(normal(3 * self.hidden, self.hidden, scale=self.hidden**-0.5))
                weights += [normal(3 * self.hidden) for _ in range(2 if self.bias else 0)]
        lengths = ragged(self.clips, self.frames) if self.ragged else None
        return x, weights, lengths


def ragged(clips: int, frames: int) -> torch.Tensor:
    """Return lengths: all frames, none, one, and others."""
    generator = torch.Generator().manual_seed(frames)
    others = torch.randint(frames + 1, (clips,), generator=generator)
    return torch.cat([torch.tensor([frames, 0, 1]), others])[:clips]


# Straddling what code may work in: 16 units, 32 or 64 rows; the smallest of everything; CRRL's widths.
SIZES = [
    (1, 1, 1, 1),
    (15, 7, 2, 60),
    (16, 32, 60, 1),
    (17, 33, 2, 150),
    (60, 7, 60, 60),
    (64, 33, 2, 150),
    (60, 1, 60, 150),
    (64, 32, 1, 60),
]
CASES = [
    Case(*size, layers=1 + (index + kind) % 3, bidirectional=bidirectional, bias=bias, ragged=is_ragged, constant=const)
    for index, size in enumerate(SIZES)
    for kind, (bidirectional, bias, is_ragged, const) in enumerate(
        [
            (True, True, True, False),
            (True, True, False, False),
            (False, True, True, False),
            (False, True, True, True),
            (True, False, True, False),
            (False, False, False, True),
            (True, True, True, True),
        ]
    )
]


def stock_gru(x, weights, lengths=None, *, num_layers=1, bidirectional=False, frames=None):
    """Return what nn.GRU makes of each clip's valid frames, differentiable in x and the weights."""
    hidden, has_bias = weights[1].shape[1], len(weights) % 4 == 0 and weights[2].dim() == 1
    module = nn.GRU(x.shape[-1], hidden, num_layers, bias=has_bias, batch_first=True, bidirectional=bidirectional)
    for name, weight in zip(module._flat_weights_names, weights, strict=True):
        del module._parameters[name]
        setattr(module, name, weight)
    x = x if frames is None else x[:, None].expand(-1, frames, -1)
    counts = [x.shape[1]] * len(x) if lengths is None else lengths.tolist()
    some = [clip for clip, count in enumerate(counts) if count > 0]
    packed = pack_padded_sequence(x[some], torch.tensor(counts)[some], batch_first=True, enforce_sorted=False)
    padded, _ = pad_packed_sequence(module(packed)[0], batch_first=True, total_length=x.shape[1])
    outputs = padded.new_zeros(len(x), *padded.shape[1:]).index_copy(0, torch.tensor(some, device=x.device), padded)
    return GruOutput(
        outputs,
        torch.stack([clip[: max(count, 1)].mean(dim=0) for clip, count in zip(outputs, counts, strict=True)]),
        outputs[:, 0],
        torch.stack([clip[max(count, 1) - 1] for clip, count in zip(outputs, counts, strict=True)]),
    )


def run(op, x, weights, lengths, **options):
    """Return the results that there are, and the gradients of a weighted sum of them, in float64 on the CPU."""
    x, weights = x.detach().requires_grad_(), [weight.detach().requires_grad_() for weight in weights]
    results = [result for result in op(x, weights, lengths, **options) if result is not None]
    generator = torch.Generator().manual_seed(1)
    # Multiples of 1/4: the same in every dtype.
    probes = [torch.randint(-4, 5, result.shape, generator=generator).to(result) / 4 for result in results]
    grads = torch.autograd.grad(results, [x, *weights], probes)
    return [tensor.detach().cpu().double() for tensor in (*results, *grads)]


def assert_near(got, truth, error):
    """Assert that each tensor is off by no more than ``error`` times its own size (or 1)."""
    assert len(got) == len(truth) >= 4
    for place, (ours, exact) in enumerate(zip(got, truth, strict=True)):
        assert ours.shape == exact.shape
        off = float((ours - exact).abs().max()) if exact.numel() else 0.0
        assert off <= error * max(1.0, float(exact.abs().max()) if exact.numel() else 0.0), (place, off)


def cast(x, weights, lengths, device, dtype=torch.float64, weight_dtype=None):
    """Return the tensors on the device in the dtype."""
    weights = [weight.to(device, weight_dtype or dtype) for weight in weights]
    return x.to(device, dtype), weights, None if lengths is None else lengths.to(device)
