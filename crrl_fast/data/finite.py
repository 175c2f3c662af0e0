"""Coordinates that are no numbers: found before anything is computed from them, and named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crrl_fast.data.layouts import Layout
from crrl_fast.errors import DataError

if TYPE_CHECKING:
    from crrl_fast.data.store import Store

# Numbers that are looked at together: so few that they stay in a core's cache.
_BLOCK = 1 << 22


def check_finite(store: Store, where: str | Path) -> None:
    """Refuse frames with NaN or infinite values; this costs one pass over them.

    Args:
        store: the clips.
        where: what the message calls the store, its path for instance.

    Raises:
        DataError: there is one; the message names clip, frame, body, joint and value.
    """
    width = store.frames.shape[1]
    rows = max(_BLOCK // max(width, 1), 1)
    bad = [
        start
        for start, block in zip(range(0, len(store.frames), rows), store.frames.split(rows), strict=True)
        if not _is_finite(block)
    ]
    if not bad:
        return
    block = store.frames[bad[0] : bad[0] + rows].isfinite().all(dim=1)
    frame = bad[0] + int((~block).nonzero()[0])
    clip = int(torch.searchsorted(store.offsets, frame, right=True)) - 1
    found = not_finite(store.clip(clip).numpy(), store.layout)
    raise DataError(
        f"{where}: clip {clip} ({store.info.clip_names[clip]!r}) has a value that is not finite at {found}: prepare it "
        "again from its source, where `crrl-fast prepare --check` finds such clips and --skip-bad leaves them out"
    )


def not_finite(coords: npt.NDArray[np.float32], layout: Layout) -> str | None:
    """Return where a clip (T, M, V, 3) first has a value that is not finite, and which; None where all are finite."""
    finite = np.isfinite(coords)
    if finite.all():
        return None
    frame, body, joint, axis = np.argwhere(~finite)[0]
    return f"frame {frame}, body {body}, joint {layout.joints[joint]!r} ({coords[frame, body, joint, axis]})"


def _is_finite(block: Tensor) -> bool:
    # Extremes are NaN where any value is. Tensor.isfinite() takes fifty times as long, most of it for its result.
    return block.numel() == 0 or bool(torch.stack(torch.aminmax(block)).isfinite().all())
