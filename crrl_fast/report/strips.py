"""Clips as small strips of poses: PNG images within the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np

from crrl_fast.data.clip import UNKNOWN
from crrl_fast.data.drawing import draw_strip
from crrl_fast.data.store import Store
from crrl_fast.errors import CrrlError

_POSES = 6
_WIDTH_INCHES, _DPI = 2.7, 200  # twice the dots that the page shows it with
_HEIGHT_INCHES = 1.1
_SCALE = 0.62  # of lines and dots, for bodies an inch high
_COLOURS = 48


@dataclass(frozen=True)
class Strip:
    """A drawn clip.

    Attributes:
        name: of the clip.
        label: its class, -1 unknown.
        image: data URI of a PNG; None for a clip that has nothing to draw.
        size: (width, height) in CSS pixels.
        frames: frames of the clip.
    """

    name: str
    label: int
    image: str | None
    size: tuple[int, int]
    frames: int

    @property
    def labelled(self) -> bool:
        """Whether its class is known."""
        return self.label != UNKNOWN


def draw(store: Store, clip: int) -> Strip:
    """Draw a clip of a store from the front, on a transparent ground."""
    coords = store.clip(clip).numpy()
    name, label = store.info.clip_names[clip], int(store.labels[clip])
    try:
        pixels, size = _draw(coords, store)
    except CrrlError:  # no body in any frame
        return Strip(name, label, None, (0, 0), len(coords))
    return Strip(name, label, f"data:image/png;base64,{base64.b64encode(pixels).decode()}", size, len(coords))


def _draw(coords: np.ndarray, store: Store) -> tuple[bytes, tuple[int, int]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(_WIDTH_INCHES, _HEIGHT_INCHES), dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    draw_strip(axes, coords, store.layout, poses=_POSES, scale=_SCALE)
    for number in list(axes.texts):  # frame numbers this small are no help; the caption has the frames
        number.remove()
    axes.set_anchor("S")  # one ground for all strips of a row
    figure.patch.set_alpha(0)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    picture = Image.fromarray(pixels.copy())
    packed = picture.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    file = io.BytesIO()
    packed.save(file, format="PNG", optimize=True)
    return file.getvalue(), (picture.width // 2, picture.height // 2)
