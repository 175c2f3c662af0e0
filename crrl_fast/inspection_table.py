"""What is in a store, laid out for a terminal."""

from __future__ import annotations

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from crrl_fast.data.clip import UNKNOWN
from crrl_fast.data.inspection import Inspection, Lengths
from crrl_fast.data.store import Store

_BARS = "▁▂▃▄▅▆▇█"
_ALL_SHOWN = 20
_SHOWN = 12


def render(found: Inspection, all_classes: bool = False) -> RenderableType:
    """Lay an inspection out as a table; beyond 20 classes only the first 12, unless ``all_classes``."""
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("store", Text(f"{found.path}, {_size(found.file_bytes)}"))
    table.add_row("data set", Text(found.dataset))
    table.add_row("clips", f"{found.clips:,}")
    table.add_row("frames", f"{found.frames:,}, {_fps(found)}")
    table.add_row("lengths", _lengths(found.lengths))
    table.add_row("joints", Text(f"{found.joints}, layout {found.layout}"))
    table.add_row("bodies", _bodies(found))
    table.add_row("ranges", _ranges(found))
    table.add_row("not finite", _not_finite(found))
    table.add_row("classes", _classes(found, all_classes))
    table.add_row("splits", Text(_splits(found)))
    table.add_row("preprocessing", ", ".join(_step(step) for step in found.preprocessing) or "none")
    table.add_row("sha256", _hash(found))
    return table


def clip_title(store: Store, index: int) -> str:
    """Return a clip's name, class and length in a line."""
    label = int(store.labels[index])
    name = "no label" if label == UNKNOWN else store.info.class_names[label]
    return f"{store.info.clip_names[index]}  |  {name}  |  {int(store.lengths[index])} frames"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def _fps(found: Inspection) -> str:
    if found.fps is None:
        return "frames a second unknown"
    return f"recorded at {found.fps:g} a second"


def _lengths(lengths: Lengths) -> str:
    figures = (
        f"{lengths.shortest} to {lengths.longest} frames, median {lengths.median:g}, "
        f"p10 {lengths.p10:g}, p90 {lengths.p90:g}"
    )
    if lengths.shortest == lengths.longest:
        return figures
    return f"{figures}\n{lengths.shortest} {histogram(lengths.histogram)} {lengths.longest}"


def histogram(counts: tuple[int, ...]) -> str:
    """Return a bar for each count, as high as its share of the largest; a blank stands for none."""
    top = max(counts)
    return "".join(_BARS[-(-count * len(_BARS) // top) - 1] if count else " " for count in counts)


def _bodies(found: Inspection) -> str:
    bodies = found.bodies
    lines = [f"{len(bodies.frames_present)} a frame"]
    if len(bodies.frames_present) > 1:
        lines[0] += f", a second one in {_percent(bodies.clips_with_second)} of the clips"
        shares = ", ".join(_percent(share) for share in bodies.frames_present)
        lines.append(f"present in {shares} of the frames")
    lines.append(f"no body in {_percent(bodies.frames_without_any)} of the frames")
    return "\n".join(lines)


def _percent(share: float) -> str:
    """One decimal; what is neither none nor all never reads as if it were."""
    if 0 < share < 0.0005:
        return "under 0.1 %"
    if 0.9995 <= share < 1:
        return "over 99.9 %"
    return f"{100 * share:.1f} %".replace(".0 %", " %")


def _ranges(found: Inspection) -> str:
    return "\n".join(
        f"{axis}  no body" if limits is None else f"{axis}  {limits[0]:.3f} to {limits[1]:.3f}"
        for axis, limits in found.ranges.items()
    )


def _not_finite(found: Inspection) -> Text:
    bad = found.not_finite
    if not bad.values:
        return Text("none")
    return Text(f"{bad.values:,} numbers in {bad.clips:,} clips, first in {bad.first_clip!r}", style="red")


def _classes(found: Inspection, show_all: bool) -> RenderableType:
    counts = found.classes
    if not counts:
        return "none: no clip has a label"
    fewest, most = min(counts.values()), max(counts.values())
    summary = (
        f"{len(counts)}, of {fewest:,} to {most:,} clips" if fewest < most else f"{len(counts)}, of {most:,} clips"
    )
    if found.unlabelled:
        summary += f"; {found.unlabelled:,} clips have no label"
    shown = list(counts.items())
    if not show_all and len(shown) > _ALL_SHOWN:
        shown = shown[:_SHOWN]
    width = len(f"{max(counts.values()):,}")
    cells = [Text(f"{count:>{width},}  {name}") for name, count in shown]
    grid = Columns(cells, column_first=True, padding=(0, 3))
    parts: list[RenderableType] = [summary, grid]
    if len(shown) < len(counts):
        parts.append(f"and {len(counts) - len(shown)} more: --classes shows all")
    return Group(*parts)


def _splits(found: Inspection) -> str:
    lines = [
        f"{name} by {sizes.field}: {sizes.train:,} training, {sizes.test:,} test"
        for name, sizes in found.splits.items()
    ]
    return "\n".join(lines) or "none: all clips are for training"


def _step(step: dict[str, object]) -> str:
    parameters = ",".join(f"{name}={value}" for name, value in step.items() if name != "step")
    return f"{step['step']}({parameters})" if parameters else str(step["step"])


def _hash(found: Inspection) -> Text:
    if found.intact:
        return Text(f"{found.sha256}\nwhich the tensors in the file still have")
    return Text(f"{found.sha256}\nbut the tensors in the file have another: prepare it again", style="red")
