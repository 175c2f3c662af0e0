"""Runs beside each other: one row a figure, one row a recipe field, one column a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from crrl_fast.errors import ConfigError
from crrl_fast.recipes import get_recipe
from crrl_fast.report.collect import Run
from crrl_fast.report.evaluations import Evaluation, Figure
from crrl_fast.run import RANDOM_ENCODER

_ORDER = ("linear", "knn", "finetune", "semi", "retrieval", "transfer")


@dataclass(frozen=True)
class Cell:
    """A figure of one run; ``best`` marks the highest of its row, where the row can be compared."""

    figure: Figure
    evaluation: Evaluation
    best: bool


@dataclass(frozen=True)
class ResultRow:
    """A figure that one or more runs have.

    Attributes:
        title: the evaluation.
        name: which of its figures; empty where it has but one.
        encoder: empty for the encoder that a run stands for; else which other one.
        cells: one a run; None where it lacks the figure.
    """

    title: str
    name: str
    encoder: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Protocol:
    """A sentence that says how figures came about, and the evaluations that it is of."""

    title: str
    sentence: str


@dataclass(frozen=True)
class RecipeRow:
    """A recipe field.

    Attributes:
        name: of the field.
        values: one a run.
        named: the value of the named recipe of each run, where the run has another; None where it has the same.
        differs: whether runs differ from each other.
    """

    name: str
    values: tuple[str, ...]
    named: tuple[str | None, ...]
    differs: bool

    @property
    def changed(self) -> bool:
        """Whether a run has another value than its named recipe."""
        return any(value is not None for value in self.named)


def result_rows(runs: Sequence[Run]) -> list[ResultRow]:
    """Return the figures of all runs, in the order of the protocols, the runs' own encoders before others."""
    columns = [_figures(run) for run in runs]
    keys = sorted({key for column in columns for key in column})
    rows = []
    for key in keys:
        found = [column.get(key) for column in columns]
        values = [round(figure.value, 1) for _, figure in filter(None, found)]
        tests = {_test_clips(run, f[0]) for run, f in zip(runs, found, strict=True) if f}
        comparable = len(values) > 1 and len(tests) == 1
        cells = tuple(
            None if f is None else Cell(f[1], f[0], comparable and round(f[1].value, 1) == max(values)) for f in found
        )
        _, _, _, title, encoder, _, name = key
        rows.append(ResultRow(title, name, encoder, cells))
    return rows


def protocols(runs: Sequence[Run]) -> list[Protocol]:
    """Return each protocol sentence once, with the evaluations that it is of."""
    titles: dict[str, dict[str, None]] = {}
    evaluations = [e for run in runs for e in run.evaluations if e.protocol]
    for evaluation in sorted(evaluations, key=lambda e: (_place(e.kind), e.title)):
        titles.setdefault(evaluation.protocol, {})[evaluation.title] = None
    return [Protocol("; ".join(names), sentence) for sentence, names in titles.items()]


def recipe_rows(runs: Sequence[Run]) -> list[RecipeRow]:
    """Return all recipe fields with the values of each run."""
    recipes = [asdict(run.config.recipe) for run in runs]
    named = [_named_recipe(run.config.recipe_name) for run in runs]
    rows = []
    for name in recipes[0]:
        values = tuple(_text(recipe[name]) for recipe in recipes)
        usual = [None if recipe is None else _text(recipe[name]) for recipe in named]
        others = tuple(u if u != v else None for u, v in zip(usual, values, strict=True))
        rows.append(RecipeRow(name, values, others, len(set(values)) > 1))
    return rows


_Key = tuple[int, str, bool, str, str, int, str]


def _figures(run: Run) -> dict[_Key, tuple[Evaluation, Figure]]:
    """Return the figures of a run by what makes them comparable with those of other runs, in the order of the rows."""
    found: dict[_Key, tuple[Evaluation, Figure]] = {}
    for evaluation in run.evaluations:
        encoder = "" if evaluation.encoder == run.encoder else evaluation.encoder
        title = evaluation.title
        if any(
            e.title == title and e.encoder == evaluation.encoder for e in run.evaluations if e is not evaluation
        ):  # written to files of one's own naming
            title = f"{title} ({evaluation.file.stem})"
        for place, figure in enumerate(evaluation.figures):
            last = encoder == RANDOM_ENCODER
            key = (_place(evaluation.kind), evaluation.title, last, title, encoder, place, figure.name)
            found[key] = (evaluation, figure)
    return found


def _place(kind: str) -> int:
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def _test_clips(run: Run, evaluation: Evaluation) -> tuple[object, ...]:
    """Return what must be equal where figures are over the same clips; a transfer is over those of another store."""
    store = "" if evaluation.kind == "transfer" else run.config.data_sha256
    return store, evaluation.dataset, evaluation.split or run.config.split, evaluation.clips


def _named_recipe(name: str) -> dict[str, object] | None:
    try:
        return asdict(get_recipe(name))
    except ConfigError:  # of a version that had more recipes
        return None


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
