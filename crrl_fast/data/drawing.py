"""Clips as pictures: a strip of poses, or an animation. Needs the extra ``plot``.

Left and right limbs differ in hue and bodies in tone, in the colours of Okabe and Ito (Color Universal Design, 2008),
which people with any form of colour blindness can tell apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from crrl_fast.data.layouts import Layout
from crrl_fast.errors import ConfigError, CrrlError
from crrl_fast.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

Coords = npt.NDArray[np.float32]

VIEWS = ("front", "side", "top")
FORMATS = (".png", ".gif")
DEFAULT_FPS = 30.0

_FLOOR, _CAPTION = "#d9d9d9", "#595959"
_STRIP_POSES = 9
_MARGIN = 0.12  # of a pose's height, around the picture
_POINT_MARGIN = 0.1  # metres, around a body whose joints all lie in one point
_CHARACTER = 0.0082  # inches that a letter is wide for each point of its size
_POSE_INCHES, _HEADER_INCHES = 2.0, 0.32
_NARROWEST_INCHES, _WIDEST_INCHES = 5.0, 14.0
_DPI = 130
_GIF_INCHES, _GIF_DPI = 3.4, 100
_GIF_COLOURS = 64
_EDGE, _LEGEND_INCHES, _FONT_SIZE = 0.08, 0.9, 8


@dataclass(frozen=True)
class Colours:
    """Of one body: its left and right side, and what lies between."""

    left: str
    right: str
    middle: str


BODIES = (
    Colours(left="#0072B2", right="#D55E00", middle="#333333"),
    Colours(left="#56B4E9", right="#E69F00", middle="#999999"),
)


def draw_pose(axes: Axes, pose: Coords, layout: Layout, colours: Colours, scale: float = 1.0) -> None:
    """Draw one body.

    Args:
        axes: where; its data units are those of ``pose``.
        pose: (V, 2) positions, across and up.
        layout: its bones and sides.
        colours: of the body.
        scale: of lines and dots; 1 fits a body about two inches high.
    """
    from matplotlib.collections import LineCollection

    sides = _sides(layout, colours)
    bones = LineCollection(
        [(pose[child], pose[parent]) for child, parent in layout.bones],
        colors=[sides[child] for child, _ in layout.bones],
        linewidths=2.2 * scale,
        capstyle="round",
        zorder=2,
    )
    axes.add_collection(bones)
    sizes = np.full(layout.num_joints, 7.0)
    sizes[[joint == "head" for joint in layout.joints]] = 60.0
    axes.scatter(pose[:, 0], pose[:, 1], s=sizes * scale**2, c=sides, linewidths=0, zorder=3)


def draw_strip(
    axes: Axes, coords: Coords, layout: Layout, *, view: str = "front", poses: int = _STRIP_POSES, scale: float = 1.0
) -> float:
    """Draw poses of a clip side by side, each in the middle of its column and named by its frame below it.

    Args:
        axes: where; it gets equal units on both axes and loses its frame and ticks.
        coords: (T, M, V, 3); a body that is all zeros in a frame is absent there.
        layout: of the joints.
        view: front, side or top, as the main body stands in its first frame.
        poses: how many at most, evenly spread and including the first and the last frame.
        scale: of lines, dots and captions.

    Returns:
        Width over height of the picture.

    Raises:
        ConfigError: there is no such view.
        CrrlError: a coordinate is not finite.
    """
    flat, present = project(coords, layout, view)
    frames = np.unique(np.linspace(0, len(flat) - 1, min(poses, len(flat))).round().astype(np.int64))
    limits = [_limits(flat[frame][present[frame]]) for frame in frames]
    bottom, top = _limits(flat[frames][present[frames]])[:, 1]
    widths = [box[1, 0] - box[0, 0] for box in limits]
    margin = _MARGIN * max(top - bottom, *widths) or _POINT_MARGIN
    column = max(widths) + margin * coords.shape[1]
    for place, (frame, box) in enumerate(zip(frames, limits, strict=True)):
        middle = (place + 0.5) * column
        shift = np.array([middle - box[:, 0].mean(), 0], dtype=np.float32)
        for body in np.flatnonzero(present[frame])[::-1]:  # the main body in front
            draw_pose(axes, flat[frame, body] + shift, layout, BODIES[body % len(BODIES)], scale)
        axes.text(
            middle, bottom - margin, f"{frame + 1}", ha="center", va="top", color=_CAPTION, fontsize=_FONT_SIZE * scale
        )
    if view != "top":
        axes.axhline(bottom - 0.4 * margin, color=_FLOOR, linewidth=scale, zorder=1)
    width, height = column * len(frames), top - bottom + 3.5 * margin
    _frame_axes(axes, (0, width), (bottom - 2.5 * margin, top + margin))
    return float(width / height)


def strip(coords: Coords, layout: Layout, title: str, *, view: str = "front") -> Figure:
    """Return a figure of ``draw_strip`` with a title and a legend of the colours."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    ratio = draw_strip(axes, coords, layout, view=view)
    body = min(_POSE_INCHES, _WIDEST_INCHES / ratio)
    height = body + _HEADER_INCHES
    figure.set_size_inches(max(body * ratio, _NARROWEST_INCHES), height)
    axes.set_position((0, 0, 1, body / height))
    legend = figure.get_figwidth() - _LEGEND_INCHES * min(coords.shape[1], len(BODIES))
    _explain_colours(figure, coords.shape[1], left=legend, up=height - _HEADER_INCHES / 2)
    _entitle(figure, title, legend)
    return figure


def animation(coords: Coords, layout: Layout, title: str, *, view: str = "front") -> list[Image]:
    """Return one picture a frame, all to the same scale and in the same place."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    flat, present = project(coords, layout, view)
    low, high = _limits(flat[present])
    margin = _MARGIN * max(high - low) or _POINT_MARGIN
    ratio = (high[0] - low[0] + 2 * margin) / (high[1] - low[1] + 2 * margin)
    width = _GIF_INCHES * float(np.clip(ratio, 1.2, 2.4))
    height = _GIF_INCHES + _HEADER_INCHES
    figure = Figure(figsize=(width, height), dpi=_GIF_DPI)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, _GIF_INCHES / height))
    _entitle(figure, title, width - _EDGE)
    _explain_colours(figure, coords.shape[1], left=_EDGE, up=1.5 * _EDGE)
    counter = figure.text(0.99, 0.02, "", ha="right", va="bottom", fontsize=_FONT_SIZE, color=_CAPTION)
    pictures = []
    for frame in range(len(flat)):
        axes.clear()
        for body in np.flatnonzero(present[frame])[::-1]:
            draw_pose(axes, flat[frame, body], layout, BODIES[body % len(BODIES)], scale=1.4)
        if view != "top":
            axes.axhline(low[1] - 0.3 * margin, color=_FLOOR, zorder=1)
        _frame_axes(axes, (low[0] - margin, high[0] + margin), (low[1] - margin, high[1] + margin))
        counter.set_text(f"{frame + 1} / {len(flat)}")
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        picture = Image.fromarray(pixels[..., :3].copy())
        pictures.append(picture.quantize(_GIF_COLOURS, dither=Image.Dither.NONE))
    return pictures


def draw_clip(
    path: Path, coords: Coords, layout: Layout, title: str, *, view: str = "front", fps: float | None = None
) -> None:
    """Draw a clip (T, M, V, 3) to a file: ``.png`` gives a strip, ``.gif`` an animation.

    Raises:
        ConfigError: the file or the view is of an unknown kind.
        CrrlError: Matplotlib or Pillow is missing, a coordinate is not finite, no body is there, or the file cannot
            be written.
    """
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise ConfigError(f"{path}: a clip is drawn to a .png (a strip) or a .gif (animated)")
    require_plotting()
    if kind == ".png":
        figure = strip(coords, layout, title, view=view)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", pil_kwargs={"optimize": True})
        return
    first, *others = animation(coords, layout, title, view=view)
    milliseconds = round(1000 / (fps or DEFAULT_FPS))
    with replacing(path) as temporary:
        first.save(temporary, format="GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)


def require_plotting() -> None:
    """Raise CrrlError, with the cure, where Matplotlib or Pillow is missing."""
    try:
        for module in ("matplotlib.figure", "PIL.Image"):
            import_module(module)
    except ImportError as error:
        raise CrrlError(f"drawing needs Matplotlib and Pillow ({error}): pip install 'crrl-fast[plot]'") from error


def project(coords: Coords, layout: Layout, view: str) -> tuple[Coords, npt.NDArray[np.bool_]]:
    """Return (T, M, V, 2) positions, across and up, and (T, M) whether each body is there.

    The clip is turned so that the main body stands upright and its front is seen: the sources differ in whether their
    cameras look along z or against it, and in whether y goes up or down an image.

    Raises:
        ConfigError: there is no such view.
        CrrlError: a coordinate is not finite, or no body is there in any frame.
    """
    if view not in VIEWS:
        raise ConfigError(f"unknown view {view!r}: choose {', '.join(VIEWS)}")
    if not np.isfinite(coords).all():
        raise CrrlError("the clip has a coordinate that is not finite and cannot be drawn")
    present = np.asarray(coords.any(axis=(2, 3)))
    if not present.any():
        raise CrrlError("the clip has no body in any frame, so there is nothing to draw")
    upright = coords * _signs(coords, present, layout)
    across, up, sign = {"front": (0, 1, 1), "side": (2, 1, 1), "top": (0, 2, -1)}[view]
    return np.stack([upright[..., across], sign * upright[..., up]], axis=-1), present


def _signs(coords: Coords, present: npt.NDArray[np.bool_], layout: Layout) -> npt.NDArray[np.float32]:
    """Return (3) signs that bring the first body to stand along y and face along z; each keeps left and right."""
    frame, body = np.argwhere(present)[0]
    pose = coords[frame, body]
    torso = layout.torso_of(pose)
    upside_down = -torso[1] > 0.5 * np.linalg.norm(torso)
    vertical = np.array([1, -1, -1] if upside_down else [1, 1, 1], dtype=np.float32)
    left, right = layout.hips
    facing = np.cross((pose[left] - pose[right]) * vertical, torso * vertical)
    around = np.array([-1, 1, -1] if facing[2] < 0 else [1, 1, 1], dtype=np.float32)
    return vertical * around


def _sides(layout: Layout, colours: Colours) -> list[str]:
    sides = [colours.middle] * layout.num_joints
    for left, right in layout.mirror:
        sides[left], sides[right] = colours.left, colours.right
    return sides


def _limits(points: Coords) -> Coords:
    """Return [[left, bottom], [right, top]] of points (..., 2); zeros where there is none."""
    flat = points.reshape(-1, 2)
    return np.stack([flat.min(axis=0), flat.max(axis=0)]) if len(flat) else np.zeros((2, 2), dtype=np.float32)


def _frame_axes(axes: Axes, across: tuple[float, float], up: tuple[float, float]) -> None:
    axes.set_xlim(*across)
    axes.set_ylim(*up)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _entitle(figure: Figure, title: str, right: float) -> None:
    """Write the title at the top left, small enough to end before ``right`` inches."""
    width, height = figure.get_size_inches()
    size = min(_FONT_SIZE, (right - 2 * _EDGE) / (_CHARACTER * len(title)))
    figure.text(_EDGE / width, 1 - _HEADER_INCHES / 2 / height, title, ha="left", va="center", fontsize=size)


def _explain_colours(figure: Figure, bodies: int, *, left: float, up: float) -> None:
    """Write which colour is which side, body after body, from ``left`` inches on and at ``up`` inches."""
    width, height = figure.get_size_inches()
    for colours in BODIES[:bodies]:
        for offset, name, colour in ((0.0, "left", colours.left), (0.34, "right", colours.right)):
            place = (left + offset) / width
            figure.text(place, up / height, name, va="center", fontsize=_FONT_SIZE, color=colour, weight="bold")
        left += _LEGEND_INCHES
