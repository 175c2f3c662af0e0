"""Records of evaluations, laid out for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

Record = dict[str, Any]


def render(record: Record) -> Table:
    """Lay one record out: what was evaluated on what, the results, and the protocol in words."""
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows = (*_subject(record), *_results(record), ("protocol", record["protocol"]))
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    return table


def summary(records: Sequence[Record]) -> Table:
    """Lay records of the same encoders out, one protocol a line."""
    table = Table(title=Text(_encoder(records[0])), title_style="", caption_style="")
    table.caption = "percent of the test clips; the last epoch, not the best, is the result"
    table.add_column("protocol")
    table.add_column("accuracy", justify="right")
    table.add_column("mean of classes", justify="right")
    table.add_column("and", overflow="fold")
    for record in records:
        also = "; ".join(f"{name} {value}" for name, value in _also(record))
        target = f" to {record['dataset']}" if "from" in record else ""
        table.add_row(
            Text(record["evaluation"] + target),
            _percent(record["accuracy"]),
            _percent(class_mean(record["per_class"])),
            Text(also),
        )
    return table


def class_mean(per_class: Sequence[float | None]) -> float:
    """Return the mean over the classes that have test clips."""
    known = [value for value in per_class if value is not None]
    return sum(known) / len(known)


def _subject(record: Record) -> Iterator[tuple[str, str]]:
    yield "data set", f"{record['dataset']}, split {record['split']}"
    if "from" in record:
        yield "pretrained on", str(record["from"]["dataset"])
    yield "clips", f"{record['train_clips']:,} training, {record['test_clips']:,} test"
    yield "encoder", _encoder(record)
    yield from _fitting(record.get("to", {}))
    for one in record.get("streams", ()):
        result = ", ".join(f"{measure} {_percent(one[measure])}" for measure in ("accuracy", "map") if measure in one)
        yield f"{one['stream']} stream", f"{one['encoder']} of {one['run']}, weight {one['weight']:g}: {result}"


def _fitting(target: Record) -> Iterator[tuple[str, str]]:
    """Yield how clips were made to fit a run that was trained on others."""
    mapping = target.get("mapped_joints")
    if mapping:
        shared, filled = len(mapping["shared"]), len(mapping["filled"])
        rest = f", {filled} filled from the nearest" if filled else ""
        yield "joints", f"{mapping['from']} mapped to {mapping['to']}: {shared} of {shared + filled} shared{rest}"
    if target and target["bodies_taken"] < target["bodies"]:
        yield "bodies", f"the first {target['bodies_taken']} of {target['bodies']}"


def _encoder(record: Record) -> str:
    return str(record["encoder"]) if "streams" in record else f"{record['encoder']} of {record['run']}"


def _results(record: Record) -> Iterator[tuple[str, str]]:
    yield f"{record['evaluation']} accuracy", _percent(record["accuracy"])
    yield "mean of classes", _percent(class_mean(record["per_class"]))
    ranked = sorted(
        (value, name)
        for value, name in zip(record["per_class"], record["class_names"], strict=True)
        if value is not None
    )
    if len(ranked) > 1:
        yield "best class", f"{ranked[-1][1]}, {_percent(ranked[-1][0])}"
        yield "worst class", f"{ranked[0][1]}, {_percent(ranked[0][0])}"
    yield from _also(record)


def _also(record: Record) -> Iterator[tuple[str, str]]:
    """Yield what some protocols find beside the accuracy."""
    if "map" in record:
        yield "mAP", _percent(record["map"])
    for k, value in record.get("recall", {}).items():
        yield f"recall@{k}", _percent(value)
    if record.get("queries_left_out"):
        yield "left out", f"{record['queries_left_out']} test clips, whose class has no other clip in the gallery"
    for fraction in record.get("fractions", ()):
        spread = "" if fraction["std"] is None else f" ± {fraction['std']:.1f}"
        span = f"{fraction['min']:.1f} to {fraction['max']:.1f}"
        yield (
            f"{fraction['percent']:g} % of labels",
            f"{fraction['mean']:.1f}{spread} % ({span}; {fraction['clips']} clips)",
        )
    if "best_accuracy" in record:
        yield "best epoch, on test", _percent(record["best_accuracy"])


def _percent(value: float) -> str:
    return f"{value:.1f} %"
