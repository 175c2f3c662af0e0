"""Seeds: one number from the user gives every stage its own, independent of which other stages run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, purpose: str) -> int:
    """Return a 63-bit seed that depends on the user's seed and on what it is for."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@contextmanager
def seeded_weights(seed: int, purpose: str) -> Iterator[None]:
    """Draw weights on the host from a seed of their own; torch's random state is afterwards what it was."""
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(derive_seed(seed, purpose))
        yield


def seed_everything(seed: int, purpose: str) -> torch.Generator:
    """Seed torch's global generators (weights, dropout) and return a host generator of its own (shuffling)."""
    torch.manual_seed(derive_seed(seed, purpose))
    return torch.Generator().manual_seed(derive_seed(seed, f"{purpose}/shuffle"))
