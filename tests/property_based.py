"""Hypothesis; or, where it is not installed, a stand-in that skips what needs it and lets the rest of a file run."""

from __future__ import annotations

from typing import Any

import pytest

try:
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st
except ImportError:

    class _Anything:
        """Takes the place of strategies, which are made when a file is read."""

        def __getattr__(self, name: str) -> _Anything:
            return self

        def __call__(self, *arguments: Any, **options: Any) -> _Anything:
            return self

    def given(*arguments: Any, **options: Any) -> Any:
        """Skip the test."""

        def replace(test: Any) -> Any:
            @pytest.mark.skip(reason="Hypothesis is not installed")
            def skipped() -> None: ...

            skipped.__name__ = test.__name__
            return skipped

        return replace

    def settings(*arguments: Any, **options: Any) -> Any:
        """Change nothing."""
        return lambda test: test

    HealthCheck = st = _Anything()

__all__ = ["HealthCheck", "given", "settings", "st"]
