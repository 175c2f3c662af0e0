"""A report from run folders: what is in them, drawn and written as one page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch

from crrl_fast.data.store import Store
from crrl_fast.errors import CrrlError
from crrl_fast.files import write_text
from crrl_fast.report import strips
from crrl_fast.report.collect import find_stores, read_run, run_names
from crrl_fast.report.embedding_map import EmbeddingMap, draw_map
from crrl_fast.report.gallery import Gallery, encode_split
from crrl_fast.report.neighbours import choose_queries, find_neighbours
from crrl_fast.report.page import Example, RunView, SeenNeighbour, render
from crrl_fast.run import RunFolder

REPORT_FILE = "report.html"
# Clips with their neighbours: of one run more than of several, which have them all side by side.
_EVEN, _MISLED = 4, 2
_EVEN_OF_SEVERAL, _MISLED_OF_SEVERAL = 2, 1


@dataclass(frozen=True)
class ReportRequest:
    """What the user asked for.

    Attributes:
        runs: run folders.
        out: the page; None is ``report.html`` in the folder of a single run, in the current folder for several.
        encoder: which one of each run; None is each run's own choice.
        data: stores that lie elsewhere than where their run found them.
        device: where features are extracted.
    """

    runs: tuple[Path, ...]
    out: Path | None
    encoder: str | None
    data: tuple[str, ...]
    device: torch.device

    @property
    def file(self) -> Path:
        """The page's path."""
        if self.out is not None:
            return self.out
        return self.runs[0] / REPORT_FILE if len(self.runs) == 1 else Path(REPORT_FILE)


def write_report(request: ReportRequest, on_progress: Callable[[str], None] = lambda _: None) -> Path:
    """Write a report and return its path; the file appears whole or not at all.

    The same runs give the same bytes on the same machine: nothing in the page tells when it was written.

    Args:
        request: what to write.
        on_progress: called with a few words before each part that takes long.

    Raises:
        ConfigError: a folder is no run, no stage of it has finished, or a store given is of none of the runs.
        DataError: a log, a record or a given store is damaged; the message names the file.
        CrrlError: a package is missing, or the page cannot be written.
    """
    require_report_packages()
    names = run_names(request.runs)
    folders = [RunFolder.open(path) for path in request.runs]
    runs = [read_run(folder, name, request.encoder) for folder, name in zip(folders, names, strict=True)]
    stores = find_stores(runs, request.data)
    galleries: list[Gallery | str] = []
    for run, store in zip(runs, stores, strict=True):
        if isinstance(store, Store):
            on_progress(f"{run.name}: features of {len(store)} clips")
            galleries.append(encode_split(run, store, request.device))
        else:
            galleries.append(store)
    maps: list[EmbeddingMap | None] = []
    for run, gallery in zip(runs, galleries, strict=True):
        if isinstance(gallery, Gallery):
            on_progress(f"{run.name}: map")
            maps.append(draw_map(gallery))
        else:
            maps.append(None)
    on_progress("pages")
    views = [RunView(run, gallery, plane) for run, gallery, plane in zip(runs, galleries, maps, strict=True)]
    write_text(request.file, render(views, _examples(views)))
    return request.file


def require_report_packages() -> None:
    """Raise CrrlError, with the cure, where a package of the extra ``report`` is missing."""
    try:
        for module in ("jinja2", "matplotlib.figure", "PIL.Image", "sklearn.manifold"):
            import_module(module)
    except ImportError as error:
        raise CrrlError(
            f"a report needs packages that are not here ({error}): pip install 'crrl-fast[report]'"
        ) from error


def _examples(views: Sequence[RunView]) -> list[Example]:
    """Draw a few clips with their neighbours; runs of the same clips are shown side by side."""
    several = len(views) > 1
    even, misled = (_EVEN_OF_SEVERAL, _MISLED_OF_SEVERAL) if several else (_EVEN, _MISLED)
    groups: dict[tuple[str, str | None], list[tuple[RunView, Gallery]]] = {}
    for view in views:
        if isinstance(view.gallery, Gallery):
            config = view.run.config
            groups.setdefault((config.data_sha256, config.split), []).append((view, view.gallery))
    examples = []
    for members in groups.values():
        chosen = choose_queries(members[0][1], even, misled)
        found = [find_neighbours(gallery, chosen) for _, gallery in members]
        store = members[0][1].store
        for queries in zip(*found, strict=True):
            seen = [
                tuple(SeenNeighbour(strips.draw(store, n.clip), n.cosine) for n in query.neighbours)
                for query in queries
            ]
            names = tuple(view.run.name for view, _ in members)
            clip = strips.draw(store, queries[0].clip)
            examples.append(
                Example(clip, queries[0].misled, tuple(zip(names, seen, strict=True)), store.info.class_names)
            )
    return examples
