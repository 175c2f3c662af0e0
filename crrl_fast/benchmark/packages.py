"""Packages that a benchmark measures where they are installed."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version


def why_missing(package: str, module: str) -> str:
    """Return why a package, which is imported as ``module``, cannot be measured, or nothing where it can."""
    try:
        version(package)
        importlib.import_module(module)
    except PackageNotFoundError:
        return f"not installed; pip install {package}"
    except (ImportError, OSError, RuntimeError) as error:
        return f"installed, but its import fails: {error}"
    return ""
