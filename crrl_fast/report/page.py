"""The page: what templates need, and their rendering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from crrl_fast.data.clip import UNKNOWN
from crrl_fast.report import classes, comparison
from crrl_fast.report.charts import SIDE, Chart, Series, line_chart
from crrl_fast.report.collect import Run
from crrl_fast.report.colours import CLASS_COLOURS, LINE_COLOURS
from crrl_fast.report.embedding_map import WIDE, EmbeddingMap
from crrl_fast.report.gallery import Gallery
from crrl_fast.report.strips import Strip
from crrl_fast.report.text import FILTERS

if TYPE_CHECKING:
    from jinja2 import Environment

_PAGE = "page.html.j2"
_HEADLINES = 4
# The most often confused pairs of one run, and of each of several.
_PAIRS, _PAIRS_OF_SEVERAL = 10, 5


@dataclass(frozen=True)
class RunView:
    """A run with what was computed for its page: its gallery, or the sentence why there is none, and its map."""

    run: Run
    gallery: Gallery | str
    map: EmbeddingMap | None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Class names of its store; None without one."""
        return self.gallery.store.info.class_names if isinstance(self.gallery, Gallery) else None


@dataclass(frozen=True)
class SeenNeighbour:
    """A drawn neighbour and its cosine to the query."""

    strip: Strip
    cosine: float


@dataclass(frozen=True)
class Example:
    """A drawn clip with the neighbours that each run (by name) finds for it."""

    query: Strip
    misled: bool
    neighbours: tuple[tuple[str, tuple[SeenNeighbour, ...]], ...]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class ClassView:
    """The classes of one run: the evaluation they come from, and its matrix in two forms."""

    name: str
    evaluation: str
    names: tuple[str, ...]
    rows: list[list[tuple[int, float]]] | None
    shades: list[tuple[float, str]]
    pairs: list[classes.Pair]
    results: list[classes.ClassResult]


@dataclass(frozen=True)
class MapView:
    """A map as SVG paths: (tone, class, path of points)."""

    name: str
    class_names: tuple[str, ...]
    map: EmbeddingMap
    paths: list[tuple[int, int, str]]
    part: str


def render(views: Sequence[RunView], examples: Sequence[Example]) -> str:
    """Return the page of one or several runs."""
    environment = _environment()
    return environment.get_template(_PAGE).render(_context(views, examples))


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("crrl_fast.report"),
        autoescape=True,  # names of classes, clips and folders are anybody's text
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(FILTERS)
    return environment


def _context(views: Sequence[RunView], examples: Sequence[Example]) -> Mapping[str, Any]:
    runs = [view.run for view in views]
    class_views, unshown = _class_views(views)
    maps = [_map_view(view, view.map) for view in views if view.map is not None]
    return {
        "css": files("crrl_fast.report").joinpath("style.css").read_text(encoding="utf-8"),
        "several": len(views) > 1,
        "views": views,
        "runs": runs,
        "headlines": _headlines(runs[0]) if len(runs) == 1 else [],
        "results": comparison.result_rows(runs),
        "protocols": comparison.protocols(runs),
        "charts": _charts(runs),
        "notes": _stage_notes(runs),
        "class_views": class_views,
        "without_classes": unshown,
        "differences": _differences(class_views, views),
        "maps": maps,
        "map_ratio": WIDE[1] / WIDE[0],
        "map_legend": _legend(views),
        "side": SIDE,
        "tones": len(LINE_COLOURS),
        "line_colours": LINE_COLOURS,
        "class_colours": CLASS_COLOURS,
        "class_tones": len(CLASS_COLOURS),
        "examples": examples,
        "recipe": comparison.recipe_rows(runs),
        "split_names": [_split_name(view) for view in views],
        "splits": [_split(view) for view in views],
    }


def _headlines(run: Run) -> list[tuple[str, str, str]]:
    """Return (name, figure, remark) of what matters most: the encoder's figures, each beside an untrained one's."""
    found: list[tuple[str, str, str]] = []
    for row in comparison.result_rows([run]):
        cell = row.cells[0]
        assert cell is not None
        if row.encoder or any(name == row.title for name, _, _ in found):
            continue
        untrained = next(
            (
                e.figures[0].value
                for e in run.evaluations
                if e.encoder == "random" and e.kind == cell.evaluation.kind and e.title == cell.evaluation.title
            ),
            None,
        )
        remark = f"untrained {untrained:.1f} %" if untrained is not None else row.name
        found.append((row.title, f"{cell.figure.value:.1f}", remark))
    return found[:_HEADLINES]


def _charts(runs: Sequence[Run]) -> list[tuple[str, list[Chart]]]:
    """Return (stage, charts): loss and probe of every stage that any run has."""
    stages = list(dict.fromkeys(log.stage for run in runs for log in run.stages))
    charts = []
    for stage in stages:
        logs = [(i, run, log) for i, run in enumerate(runs) for log in run.stages if log.stage == stage]
        if len(runs) == 1:
            ((_, _, log),) = logs
            losses = [Series("loss", log.curves["loss"], 0)]
            losses += [
                Series(part, log.curves[part], i % len(LINE_COLOURS), faint=True) for i, part in enumerate(log.parts, 1)
            ]
            probes = [Series("1-NN", log.curves.get("knn", ()), 0)]
        else:
            losses = [Series(run.name, log.curves["loss"], i % len(LINE_COLOURS)) for i, run, log in logs]
            probes = [Series(run.name, log.curves.get("knn", ()), i % len(LINE_COLOURS)) for i, run, log in logs]
        drawn = [
            line_chart(f"{stage}: loss", losses),
            line_chart(f"{stage}: nearest-neighbour probe", probes, unit="%", decimals=1),
        ]
        charts.append((stage, [chart for chart in drawn if chart is not None]))
    return charts


def _stage_notes(runs: Sequence[Run]) -> list[str]:
    """Return a sentence for each stage that did not run to its end, or was never probed."""
    notes = []
    for run in runs:
        of_run = f" of {run.name}" if len(runs) > 1 else ""
        epochs = run.config.epochs
        logged = {log.stage: log for log in run.stages}
        if not logged:
            notes.append(f"The log{of_run} (metrics.jsonl) is missing, so there are no curves.")
            continue
        for stage in run.config.stages:
            done = logged[stage].epochs if stage in logged else 0
            if done < epochs:
                notes.append(
                    f"Stage {stage}{of_run} stopped after {done} of {epochs} epochs."
                    if done
                    else f"Stage {stage}{of_run} was not started."
                )
        if not any("knn" in log.curves for log in run.stages):
            notes.append(f"The log{of_run} has no probe: it needs labels, a test part and --probe-every above 0.")
    return notes


def _class_views(views: Sequence[RunView]) -> tuple[list[ClassView], list[str]]:
    """Return the classes of the runs that have them, and the names of the runs that do not."""
    found, without = [], []
    for view in views:
        evaluation = view.run.of_classes()
        if evaluation is None:
            without.append(view.run.name)
            continue
        confusion = evaluation.confusion
        assert confusion is not None
        names = classes.names_of(evaluation, view.class_names)
        small = len(views) == 1 and len(names) <= classes.MOST_IN_A_TABLE
        share = classes.shares(confusion)
        found.append(
            ClassView(
                view.run.name,
                f"{evaluation.title.lower()}, encoder {evaluation.encoder}",
                names,
                [
                    list(zip(counts, row, strict=True))
                    for counts, row in zip(confusion.tolist(), share.tolist(), strict=True)
                ]
                if small
                else None,
                [] if small else classes.shade_paths(confusion),
                classes.most_confused(confusion, names, _PAIRS if len(views) == 1 else _PAIRS_OF_SEVERAL),
                classes.class_results(confusion, names),
            )
        )
    return found, without


def _differences(found: Sequence[ClassView], views: Sequence[RunView]) -> list[classes.ClassDifference]:
    """Return the classes with each run's accuracy; none unless all runs are of the same classes."""
    if len(found) < 2 or len(found) < len(views) or len({view.names for view in found}) > 1:
        return []
    confusions = [evaluation.confusion for view in views if (evaluation := view.run.of_classes()) is not None]
    return classes.class_differences([c for c in confusions if c is not None], found[0].names)


def _map_view(view: RunView, plane: EmbeddingMap) -> MapView:
    assert isinstance(view.gallery, Gallery)
    places = (plane.points * [SIDE, SIDE * WIDE[1] / WIDE[0]]).round().astype(int)
    paths = [
        (
            UNKNOWN if label == UNKNOWN else label % len(CLASS_COLOURS),
            label,
            "".join(f"M{x} {y}h0" for x, y in places[plane.classes == label].tolist()),
        )
        for label in np.unique(plane.classes).tolist()
    ]
    names = view.gallery.store.info.class_names
    return MapView(view.run.name, names, plane, paths, "training" if view.gallery.shows_training else "test")


def _legend(views: Sequence[RunView]) -> list[tuple[tuple[str, ...], list[int]]]:
    """Return (class names, classes on the maps) once for all maps of the same classes."""
    legends: dict[tuple[str, ...], set[int]] = {}
    for view in views:
        if view.map is not None and view.class_names is not None:
            legends.setdefault(view.class_names, set()).update(label.label for label in view.map.labels)
    return [(names, sorted(labels)) for names, labels in legends.items() if labels]


def _split_name(view: RunView) -> str | None:
    """Return the name of a run's split; None where it took the store's first one, and the store is not at hand."""
    first = next(iter(view.gallery.store.info.splits), None) if isinstance(view.gallery, Gallery) else None
    return view.run.config.split or first


def _split(view: RunView) -> str:
    """Return the split's name, and its training and test clips: from the store or, without it, from a record."""
    if isinstance(view.gallery, Gallery):
        shown = 0 if view.gallery.shows_training else len(view.gallery.shown.clips)
        sizes: tuple[int, int] | None = len(view.gallery.train.clips), shown
    else:
        sizes = next((e.clips for e in view.run.evaluations if e.clips is not None and e.kind != "transfer"), None)
    parts = [f"{sizes[0]:,} training clips, {sizes[1]:,} test clips"] if sizes else []
    name = _split_name(view)
    return ": ".join(([name] if name else []) + parts) or "the store's first"
