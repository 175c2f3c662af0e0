"""How long a run takes to read and verify its store: `python bench/loading.py [STORE ...]`.

Without stores, one of the size of NTU RGB+D 60 is made: 40,000 clips of 60 frames of two 25-joint bodies.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from crrl_fast.data.finite import check_finite
from crrl_fast.data.loading import load_store
from crrl_fast.data.store import Store

ROUNDS = 5
CLIPS, FRAMES = 40_000, 60


def seconds(work: Callable[[], object]) -> str:
    """Return the median and the range of some rounds; what the work returns is dropped at once."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return f"{statistics.median(times):.4f} s ({min(times):.4f} to {max(times):.4f})"


def measure(path: Path) -> None:
    """Print what reading a store takes, and its parts."""
    whole = seconds(lambda: load_store(path))
    store = load_store(path).store
    print(f"{store.info.dataset}: {len(store)} clips, {store.frames.nbytes / 1e6:.0f} MB of frames")
    print(f"  read and verified  {whole}")
    print(f"  of it, the hash    {seconds(store.digest)}")
    print(f"  of it, finite      {seconds(lambda: check_finite(store, path))}")


def large_store(path: Path) -> None:
    """Write a store of random numbers."""
    rng = np.random.default_rng(0)
    clips = rng.standard_normal((CLIPS, FRAMES, 2, 25, 3), dtype=np.float32)
    Store.from_arrays(list(clips), layout="ntu25", dataset="random").save(path)


def main() -> None:
    """Measure the stores that are named, or a large one."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; median and range of {ROUNDS}")
    with TemporaryDirectory() as folder:
        paths = [Path(name) for name in sys.argv[1:]]
        if not paths:
            paths = [Path(folder) / "large.safetensors"]
            large_store(paths[0])
        for path in paths:
            measure(path)


if __name__ == "__main__":
    main()
