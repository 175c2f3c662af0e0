"""The counter-based random numbers of the view noise, in plain PyTorch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def _product(a: int, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the high and the low 32 bits of a * b, both of 32 bits, without passing 63 bits on the way."""
    upper, lower = a * (b >> 16), a * (b & 0xFFFF)
    return (upper + (lower >> 16)) >> 16, (((upper & 0xFFFF) << 16) + lower) & _MASK


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], seed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10 (Salmon et al., SC 2011): four random 32-bit numbers of a counter of four and a 64-bit seed.

    Args:
        counter: int64 tensors of values from 0 to 2**32 - 1 that broadcast with each other.
        seed: int64, broadcasts with them; its low half is the first word of the key.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = seed & _MASK, (seed >> 32) & _MASK
    for _ in range(10):
        (high0, low0), (high1, low1) = _product(0xD2511F53, c0), _product(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return c0, c1, c2, c3


def normals(random: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Return (..., 3) float32 standard normals, by Box and Muller: two of the first pair, one of the second.

    The upper 24 bits of each number count: the radius is sqrt(-2 log((n + 1) / 2**24)), the angle a turn times
    n / 2**24 - 1/8, whose offset lets the kernels use a polynomial over [-45, 45) degrees.
    """
    first, second, third, fourth = (number >> 8 for number in random)

    def radius(n: Tensor) -> Tensor:
        return torch.sqrt(-2 * torch.log((n + 1).double() / 2**24))

    def angle(n: Tensor) -> Tensor:
        return 2 * math.pi * (n.double() / 2**24 - 0.125)

    x = radius(first) * torch.cos(angle(second))
    y = radius(first) * torch.sin(angle(second))
    z = radius(third) * torch.cos(angle(fourth))
    return torch.stack([x, y, z], dim=-1).float()
