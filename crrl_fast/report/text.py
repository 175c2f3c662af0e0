"""Numbers as a reader wants them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_MINUTE, _HOUR = 60, 3600


def percent(value: float | None) -> str:
    """Return a percentage to one decimal, without its sign; a dash for None."""
    return "\u2013" if value is None else f"{value:.1f}"


def signed(value: float) -> str:
    """Return a difference of percentages with its sign."""
    return f"{value:+.1f}".replace("-", "\u2212")


def thousands(value: float) -> str:
    """Return a whole number with separators."""
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Return seconds in at most two units."""
    seconds = round(seconds)
    if seconds < _MINUTE:
        return f"{seconds} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min {seconds % _MINUTE} s"
    return f"{seconds // _HOUR} h {seconds % _HOUR // _MINUTE} min"


def place(share: float) -> str:
    """Return a share as a CSS percentage."""
    return f"{100 * share:.4g}%"


def counted(count: int, what: str) -> str:
    """Return ``1 clip``, ``2 clips`` and so on."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


FILTERS: dict[str, Callable[..., Any]] = {
    "percent": percent,
    "signed": signed,
    "thousands": thousands,
    "duration": duration,
    "place": place,
    "counted": counted,
}
