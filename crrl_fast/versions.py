"""What ran: versions of the software that records and run folders carry."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import torch


def package_version() -> str:
    """Return the version of crrl-fast, or ``unknown`` where it runs from a tree that was never installed."""
    try:
        return metadata.version("crrl-fast")
    except metadata.PackageNotFoundError:
        return "unknown"


@cache
def git_commit() -> str | None:
    """Return the commit of the source tree that crrl-fast runs from, ``-dirty`` if changed; None outside a checkout."""
    tree = Path(__file__).parent.parent
    if not (tree / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=tree,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


def software_versions() -> dict[str, str | None]:
    """Return the versions a result depends on, in JSON form."""
    return {
        "crrl_fast": package_version(),
        "commit": git_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }
