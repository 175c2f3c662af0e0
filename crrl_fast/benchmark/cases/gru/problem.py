"""What the GRU is measured on: shapes, inputs, what is differentiated, and the truth."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from crrl_fast.benchmark.harness import Outputs


@dataclass(frozen=True)
class Shape:
    """An encoder, bidirectional; or a decoder, unidirectional and fed one vector a clip, with the gradient of it."""

    layers: int
    hidden: int
    batch: int
    frames: int
    input_size: int
    shortest: int | None = None
    """Lengths are uniform from here to ``frames``; None: all are ``frames``."""
    decoder: bool = False

    @property
    def directions(self) -> int:
        """Return 2 for an encoder."""
        return 1 if self.decoder else 2

    @property
    def name(self) -> str:
        """Return layers x hidden, (B, T, D), and whether the lengths differ."""
        kind = "decoder" if self.decoder else "bidirectional"
        size = f"({self.batch}, {self.frames}, {self.input_size})"
        return f"{self.layers}x{self.hidden} {kind} {size} {'dense' if self.shortest is None else 'ragged'}"


@dataclass(frozen=True)
class Problem:
    """Weights, as stock PyTorch holds them, and a batch."""

    shape: Shape
    module: nn.GRU
    x: Tensor
    """(B, T, D); of a decoder (B, D)."""
    host_lengths: Tensor
    """(B) on the host, where packing needs them."""
    lengths: Tensor | None
    """The same beside ``x``; None where all clips fill the batch."""
    cotangents: Outputs
    """The gradient of the loss by each result: the loss is the sum of their products."""

    @property
    def frame_counts(self) -> list[int]:
        """Return the valid frames of every clip."""
        counts: list[int] = self.host_lengths.tolist()
        return counts

    @property
    def leaves(self) -> list[Tensor]:
        """Return what the loss is differentiated by."""
        return [*self.module.parameters(), *([self.x] if self.shape.decoder else [])]

    @cached_property
    def reversal(self) -> Tensor:
        """Return, for every clip and frame, the frame that takes its place where the clip's valid part is reversed."""
        frame = torch.arange(self.shape.frames)
        back = self.host_lengths[:, None] - 1 - frame
        return torch.where(back >= 0, back, frame).to(self.x.device)

    @cached_property
    def padding(self) -> Tensor | None:
        """Return which frames are none, (B, T, 1)."""
        if self.lengths is None:
            return None
        return (torch.arange(self.shape.frames, device=self.x.device) >= self.lengths[:, None])[..., None]

    def results(self, outputs: Tensor) -> Outputs:
        """Return what CRRL uses of (B, T, C) outputs: mean, first and last; of a decoder all of them."""
        outputs = outputs.to(self.x.dtype)
        if self.shape.decoder:
            return (outputs,)
        if self.lengths is None:
            return outputs.mean(dim=1), outputs[:, 0], outputs[:, -1]
        lengths = self.lengths[:, None]
        last = outputs.gather(1, (lengths[:, :, None] - 1).expand(-1, 1, outputs.shape[2])).squeeze(1)
        return outputs.sum(dim=1) / lengths, outputs[:, 0], last

    def stock(self, precision: torch.dtype) -> Outputs:
        """Compute the results by ``nn.GRU``, packed where the clips differ in length, under autocast in bfloat16."""
        x = self.x[:, None].expand(-1, self.shape.frames, -1) if self.shape.decoder else self.x
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
            if self.lengths is None:
                outputs = self.module(x)[0]
            else:
                packed = pack_padded_sequence(x, self.host_lengths, batch_first=True, enforce_sorted=False)
                outputs, _ = pad_packed_sequence(
                    self.module(packed)[0], batch_first=True, total_length=self.shape.frames
                )
        return self.results(outputs)

    @cached_property
    def truth(self) -> Outputs:
        """Return results and gradients of ``nn.GRU`` in float64."""
        exact = Problem(
            self.shape,
            copy.deepcopy(self.module).double(),
            self.x.detach().double().requires_grad_(self.x.requires_grad),
            self.host_lengths,
            self.lengths,
            tuple(cotangent.double() for cotangent in self.cotangents),
        )
        return exact.work(lambda: exact.stock(torch.float64), backward=True)()

    def work(
        self, forward: Callable[[], Outputs], leaves: Sequence[Tensor] | None = None, *, backward: bool
    ) -> Callable[[], Outputs]:
        """Return results and, with ``backward``, the loss's gradients by the ``leaves``; without it, inference."""
        by = self.leaves if leaves is None else leaves

        def inference() -> Outputs:
            with torch.no_grad():
                return forward()

        def forward_backward() -> Outputs:
            results = forward()
            gradients = torch.autograd.grad(results, by, self.cotangents)
            return (*(result.detach() for result in results), *gradients)

        return forward_backward if backward else inference


def draw(shape: Shape, device: torch.device) -> Problem:
    """Draw weights as ``nn.GRU`` does, and inputs and cotangents from the normal distribution."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.GRU(
            shape.input_size, shape.hidden, shape.layers, batch_first=True, bidirectional=shape.directions == 2
        ).to(device)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator).to(device)

    ragged = shape.shortest is not None
    lengths = torch.randint(shape.shortest or shape.frames, shape.frames + 1, (shape.batch,), generator=generator)
    x = normal(shape.batch, *([] if shape.decoder else [shape.frames]), shape.input_size)
    channels = shape.directions * shape.hidden
    return Problem(
        shape,
        module,
        x.requires_grad_(shape.decoder),
        lengths,
        lengths.to(device) if ragged else None,
        (normal(shape.batch, shape.frames, channels),)
        if shape.decoder
        else tuple(normal(shape.batch, channels) for _ in range(3)),
    )
