"""Hypothesis; or, where it is not installed, a stand-in that skips what needs it and lets the rest of a file run."""

from __future__ import annotations

import os
from typing import Any

import pytest

try:
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    # Tests draw the same examples every time and remember none; fuzzing draws others, until it has had enough.
    _COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]}
    settings.register_profile("test", max_examples=30, derandomize=True, database=None, **_COMMON)
    settings.register_profile("fuzz", max_examples=int(os.environ.get("CRRL_FUZZ", "1000")), print_blob=True, **_COMMON)
    settings.load_profile("test")
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
