"""An exported file beside the encoder it was made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from crrl_fast.errors import CrrlError
from crrl_fast.models import ClipEncoder
from crrl_fast.padding import valid_frames

# A share of the largest number of a batch's features: means of a GRU's outputs lie within -1 and 1, but whitening may
# make them far smaller, or larger. Rounding in float32 moves them by some 1e-6 of that; gates in another order, or a
# velocity or whitening that is left out, by more than 1e-2.
TOLERANCE = 1e-4
# The program was traced with 2 clips of 3 frames; other sizes show that it takes them.
_SIZES = ((1, 1), (7, 40))


@torch.no_grad()
def largest_difference(encoder: ClipEncoder, feature: Callable[[Tensor, Tensor], Tensor], width: int) -> float:
    """Return the largest difference of clip features on random ragged batches with NaN in their padding.

    It is a share of the largest magnitude among the features of its batch.

    Args:
        encoder: in eval mode, on the CPU.
        feature: from frames (B, T, ``width``) float32 and lengths (B) int64, 1 to T, to the feature (B, C).
        width: numbers D a frame.
    """
    generator = torch.Generator().manual_seed(0)
    differences = []
    for clips, frames in _SIZES:
        lengths = torch.randint(1, frames + 1, (clips,), generator=generator)
        x = torch.randn(clips, frames, width, generator=generator)
        x = torch.where(valid_frames(lengths, frames)[:, :, None], x, torch.nan)
        expected = encoder(x, lengths).feature
        size = expected.abs().max().clamp(min=torch.finfo(expected.dtype).tiny)
        differences.append((feature(x, lengths) - expected).abs().max() / size)
    return float(torch.stack(differences).max())


def require_equal(difference: float, path: Path) -> None:
    """Refuse a file that computes something else.

    Raises:
        CrrlError: its features differ by more than rounding.
    """
    if not difference <= TOLERANCE:  # NaN is refused too
        raise CrrlError(
            f"{path}: not written, because its features differ from the encoder's by {difference:.1e} of their size "
            f"(allowed {TOLERANCE:.0e}): please report this with the versions that `crrl-fast doctor` prints"
        )
