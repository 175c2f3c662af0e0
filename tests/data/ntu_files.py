"""A writer of raw NTU files, for tests that read them back, and damage to what it wrote."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

FIRST_ID = 72057594037931101  # tracking ids are as large as that


def ntu_text(frames: Sequence[Mapping[int, np.ndarray]], newline: str = "\n", rest: str = "1 2 3 4 1 0 0 0 2") -> str:
    """Return raw NTU text of ``frames``, each from body id to joints (25, 3); ``rest``: a joint's other columns."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body, joints in bodies.items():
            lines += [f"{body} 0 1 1 1 1 0 0.02764709 0.05745083 2", str(len(joints))]
            # Nine digits bring a float32 back exactly.
            lines += [f"{x:.9g} {y:.9g} {z:.9g} {rest}" for x, y, z in joints.tolist()]
    return newline.join(lines) + newline


def ntu_frames(clip: np.ndarray) -> list[dict[int, np.ndarray]]:
    """Return the frames of a clip (T, M, 25, 3) for ``ntu_text``; a body that is all zeros is absent."""
    return [{FIRST_ID + m: joints for m, joints in enumerate(frame) if joints.any()} for frame in clip]


def write_ntu(path: Path, clip: np.ndarray, newline: str = "\n") -> Path:
    """Write ``clip`` (T, M, 25, 3) as a raw ``.skeleton`` file and return its path.

    It reads back as it is where M is 2, its first and last frame have a body, and the reader's choice of actors agrees:
    each body is in more than 11 frames (or alone), mostly taller than wide, and the first moves more.
    """
    path.write_text(ntu_text(ntu_frames(clip), newline), newline="")
    return path


def standing(frames: int, motion: float = 1.0, seed: int = 0) -> np.ndarray:
    """Return a body (frames, 25, 3) as tall as a person and half as wide, whose variance grows with ``motion``."""
    rng = np.random.default_rng(seed)
    joints = rng.uniform(-1, 1, size=(1, 25, 3)) * (0.2, 0.8, 0.2)
    joints[0, :2] = (0, 0.85, 0), (0, -0.85, 0)
    walk = rng.normal(size=(frames, 1, 3)).cumsum(axis=0)
    walk -= walk.mean(axis=0)
    walk *= motion / max(float(np.sqrt(walk.var(axis=0).sum())), 1e-9)
    return (joints + walk + (0, 0, 3.5)).astype(np.float32)
