"""View parameters in the making: what the parts of a preset draw into, for the whole batch at once."""

from __future__ import annotations

import functools
from typing import TypeAlias

import torch
from torch import Tensor

from crrl_fast.data.layouts import Layout
from crrl_fast.views.params import ViewParams

Nested: TypeAlias = "float | tuple[Nested, ...]"


class Draft:
    """The parameters drawn so far for B views; None is a step that no part has asked for.

    A ``gate`` is a (B) bool tensor of the views that a part applies to, or None for all.

    Args:
        lengths: (B) int64, frames of each clip.
        layout: the joint layout.
        generator: where random numbers come from; None: torch's own of the device of ``lengths``.
    """

    def __init__(self, lengths: Tensor, layout: Layout, generator: torch.Generator | None) -> None:
        self.layout = layout
        self.clip_frames = lengths
        self.lengths = lengths
        self.start = torch.zeros_like(lengths)
        self.span = lengths - 1
        self.partner: Tensor | None = None
        self.mirror: Tensor | None = None
        self.origin: Tensor | None = None
        self.matrix: Tensor | None = None
        self.joints: Tensor | None = None
        self.joint_matrix: Tensor | None = None
        self.noise_std: Tensor | None = None
        self.blur: Tensor | None = None
        self._generator = generator

    def uniform(self, *shape: int) -> Tensor:
        """Return (B, *shape) float32 in [0, 1)."""
        device = self.lengths.device
        source = device if self._generator is None else self._generator.device
        return torch.rand(len(self.lengths), *shape, generator=self._generator, device=source).to(device)

    def integers(self, count: Tensor | int) -> Tensor:
        """Return (B) int64, each uniform in [0, count)."""
        return (self.uniform() * count).long()

    def constant(self, values: Nested) -> Tensor:
        """Return a float32 constant on the device of the draft; it must not be written to."""
        return _constant(values, torch.float32, self.lengths.device)

    def numbers(self, values: tuple[int, ...]) -> Tensor:
        """Return an int64 constant on the device of the draft; it must not be written to."""
        return _constant(values, torch.int64, self.lengths.device)

    def gate(self, probability: float, gate: Tensor | None) -> Tensor | None:
        """Return the views of ``gate`` for which an event of that probability happens."""
        if probability == 1:
            return gate
        happens = self.uniform() < probability
        return happens if gate is None else gate & happens

    def choose(self, gate: Tensor | None, value: Tensor, otherwise: Tensor) -> Tensor:
        """Return ``value`` where the gate is open, ``otherwise`` elsewhere."""
        if gate is None:
            return value
        return torch.where(gate.view(-1, *[1] * (value.dim() - 1)), value, otherwise)

    def identity(self) -> Tensor:
        """Return (B, 3, 3) identity matrices."""
        return torch.eye(3, device=self.lengths.device).expand(len(self.lengths), 3, 3)

    def multiply(self, matrix: Tensor, gate: Tensor | None) -> None:
        """Apply (B, 3, 3) matrices after those drawn so far."""
        matrix = self.choose(gate, matrix, self.identity())
        self.matrix = matrix if self.matrix is None else matrix @ self.matrix
        if self.joint_matrix is not None:
            self.joint_matrix = matrix @ self.joint_matrix

    def finish(self, *, normalize_blur: bool) -> ViewParams:
        """Return the parameters, with a seed of their own where there is noise."""
        seed = None
        if self.noise_std is not None:
            high, low = (self.uniform(2).double() * 2**24).long().unbind(1)  # each of 24 bits
            seed = high << 24 | low
        return ViewParams(
            num_joints=self.layout.num_joints,
            lengths=self.lengths,
            start=self.start,
            span=self.span,
            partner=self.partner,
            mirror=self.mirror,
            origin=self.origin,
            matrix=self.matrix,
            joints=self.joints,
            joint_matrix=self.joint_matrix,
            noise_std=self.noise_std,
            seed=seed,
            blur=self.blur,
            normalize_blur=normalize_blur,
        )


@functools.lru_cache(maxsize=64)
def _constant(values: Nested, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Made once: copying from the host cannot be captured in a CUDA graph, and would wait for the device."""
    return torch.tensor(values, dtype=dtype, device=device)
