"""Layouts as JSON, in stores and run folders: a known one by its name, a layout of the user's own written out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from crrl_fast.data.layouts.known import LAYOUTS, get_layout
from crrl_fast.data.layouts.layout import Layout


def layout_record(layout: Layout) -> str | dict[str, Any]:
    """Return what ``layout_from_record`` reads back."""
    return layout.name if layout == LAYOUTS.get(layout.name) else asdict(layout)


def layout_from_record(record: str | dict[str, Any]) -> Layout:
    """Return the layout that ``layout_record`` described.

    Raises:
        DataError: it has a name that no layout has, or contradicts itself (see ``Layout``).
        KeyError: a part of it is missing; so too TypeError, ValueError and IndexError where a part is malformed.
    """
    if isinstance(record, str):
        return get_layout(record)
    return Layout(
        name=record["name"],
        joints=tuple(record["joints"]),
        bones=tuple((child, parent) for child, parent in record["bones"]),
        mirror=tuple((left, right) for left, right in record["mirror"]),
        center=tuple(record["center"]),
        spine_top=tuple(record["spine_top"]),
        hips=(record["hips"][0], record["hips"][1]),
    )
