"""The machine's rate of matrix products, the roof under which training steps are seen."""

from __future__ import annotations

import torch

from crrl_fast.benchmark.train.clock import timed

SIDE = {"cpu": 2048, "cuda": 8192}
"""Of the square matrices: large enough that a larger one is no faster."""

REPEATS = {"cpu": 1, "cuda": 10}

DTYPES = (torch.float32, torch.bfloat16)


class GemmRate:
    """A ``torch.mm`` of square matrices, timed whenever it is called.

    Args:
        dtype: of the matrices.
        device: where they are.
        side: of the matrices; default: large ones, see ``SIDE``.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, side: int | None = None) -> None:
        self._device = device
        side = SIDE[device.type] if side is None else side
        self._left, self._right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        self._out = torch.empty_like(self._left)
        self()  # the first call sets the library up

    def __call__(self) -> float:
        """Return operations per second, two a multiply-add."""
        repeats = REPEATS[self._device.type]

        def products() -> None:
            for _ in range(repeats):
                torch.mm(self._left, self._right, out=self._out)

        _, seconds = timed(products, self._device)
        return repeats * 2 * self._left.shape[0] ** 3 / seconds
