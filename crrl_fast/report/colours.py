"""Colours of lines and classes, for light and dark pages.

Lines take those of Okabe and Ito (Color Universal Design, 2008), darkened or lightened until they can be read as text.
Classes, of which there may be many, take the same hues in three tones.
"""

from __future__ import annotations

LINE_COLOURS = (
    ("#00629b", "#6bb8e6"),
    ("#b34a00", "#f0955a"),
    ("#00755a", "#4fc7a1"),
    ("#96517a", "#dd9bc4"),
    ("#7a6000", "#e3c53f"),
    ("#23788f", "#86d1e0"),
    ("#55606a", "#b3bdc4"),
    ("#1d2327", "#f2f4f3"),
)

_HUES = (
    ("#0072b2", "#3d9bd6"),
    ("#d55e00", "#ea7f2f"),
    ("#009e73", "#20b98d"),
    ("#cc79a7", "#d88fb8"),
    ("#b8960c", "#d9b92f"),
    ("#3aa3d4", "#7cc6ec"),
    ("#7d58a8", "#a584cf"),
    ("#6b7176", "#9aa1a6"),
)
_TONES = (("#000000", 0.0), ("#ffffff", 0.5), ("#000000", 0.42))


def _mixed(colour: str, other: str, share: float) -> str:
    pairs = zip(bytes.fromhex(colour[1:]), bytes.fromhex(other[1:]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


CLASS_COLOURS = tuple(
    (_mixed(light, other, share), _mixed(dark, other, share)) for other, share in _TONES for light, dark in _HUES
)
