"""Colours can be told from the page they stand on."""

import re
from importlib.resources import files

import pytest

from crrl_fast.report.colours import CLASS_COLOURS, LINE_COLOURS

CSS = files("crrl_fast.report").joinpath("style.css").read_text()
LIGHT, DARK = (dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", CSS, re.S))


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("page", "side"), [(LIGHT, 0), (DARK, 1)])
def test_text_has_the_contrast_of_wcag_aa(page, side):
    texts = [page[name] for name in ("ink", "quiet", "accent", "good", "bad")] + [pair[side] for pair in LINE_COLOURS]
    for colour in texts:
        for ground in (page["paper"], page["raised"]):
            assert contrast(colour, ground) >= 4.5, (colour, ground)
    assert contrast(page["ink"], page["mark"]) >= 4.5
    assert contrast(page["quiet"], page["mark"]) >= 4.5


@pytest.mark.parametrize(("page", "side"), [(LIGHT, 0), (DARK, 1)])
def test_dots_are_seen_and_differ(page, side):
    colours = [pair[side] for pair in CLASS_COLOURS]
    assert len(set(colours)) == 24
    assert all(contrast(colour, page["raised"]) >= 1.4 for colour in colours)
