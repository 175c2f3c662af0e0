"""What a long run held and how fast it went, judged, and laid out as a table."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from soak_verdicts import (
    BROKEN,
    KEPT,
    UNDECIDED,
    Blocks,
    Change,
    Verdict,
    judge_count,
    judge_drift,
    judge_memory,
    most_of_blocks,
)
from soak_worker import Sample

from crrl_fast.benchmark.record import Record
from crrl_fast.benchmark.text import circumstances, short, with_spread
from crrl_fast.benchmark.train.render import Row, Section, Sheet, sheet_lines

JUDGED = {"rss": "resident memory (RSS)", "uss": "private memory (USS)"}
"""The memory whose growth is limited."""

SHOWN = {"pss": "proportional memory (PSS)", "peak": "most resident so far (VmHWM)"}
ON_GPU = {"cuda_allocated": "allocated on the GPU", "cuda_reserved": "reserved on the GPU"}
COUNTS = {"descriptors": "open files", "threads": "threads"}
ACROSS = "across stages"

COLUMNS = ("after warm-up", "first fifth", "last fifth", "change", "trend (95 %)", "verdict")

REMARKS = (
    "a sample after each epoch; a block is the epochs from one probe to the next, so that each holds the same work; "
    "the median of each fifth of the blocks, and in brackets p10 to p90",
    "memory: the most of each block, for what a checkpoint takes is given back to the system at once or an epoch later",
    "change: median of the last fifth over that of the first; trend: Theil-Sen slope over the whole, as a part of the "
    "median, and in brackets its 95 percent interval; what is further from 0 is judged, of memory the larger",
    "limits: memory grows by less than 1 %, open files and threads do not grow, clips a second change by less than 5 %",
    "clips a second, all: of each block, probes, log and checkpoints included; steps alone: of each epoch, as "
    "metrics.jsonl has it; where the former change more, they are judged beside a torch.mm timed after each epoch: "
    "what the machine gave",
)


@dataclass(frozen=True)
class StageSoak:
    """One stage after its warm-up.

    Attributes:
        stage: its name.
        changes: of memory, in bytes, and of rates, by the name of the quantity.
        blocks: of epochs, whose rates are judged.
        counts: the most descriptors and threads in the first and in the last fifth.
        verdicts: on what is limited.
    """

    stage: str
    changes: dict[str, Change]
    blocks: Blocks
    counts: dict[str, tuple[int, int]]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class SoakRecord(Record):
    """A long run.

    Attributes:
        data: that it was trained on.
        clips: of an epoch.
        recipe: the recipe's fields.
        epochs: of each stage.
        warm_up: of these, the first that are not judged.
        block: epochs between two probes.
        seconds: from the first epoch's end to the last one's.
        stages: in order.
        across: verdicts on all stages together.
        samples: of every epoch, by the name of the quantity.
    """

    data: str
    clips: int
    recipe: dict[str, Any]
    epochs: int
    warm_up: int
    block: int
    seconds: float
    stages: tuple[StageSoak, ...]
    across: tuple[Verdict, ...]
    samples: dict[str, list[Any]]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """All of them."""
        return (*itertools.chain.from_iterable(stage.verdicts for stage in self.stages), *self.across)


def stages_of(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Return the samples of each stage."""
    return {stage: list(part) for stage, part in itertools.groupby(samples, lambda sample: sample.stage)}


def judge_stage(stage: str, samples: Sequence[Sample], warm_up: int, block: int) -> StageSoak:
    """Judge a stage by the samples of all its epochs."""
    settled = samples[warm_up:]
    blocks = Blocks.of(samples[warm_up - 1 :], block)
    memory = {**JUDGED, **SHOWN, **({} if not settled[-1].cuda_reserved else ON_GPU)}
    held = {name: [getattr(sample, name) for sample in settled] for name in memory}
    changes = {name: Change.of(most_of_blocks(values, block)) for name, values in held.items()}
    changes["all"] = Change.of(blocks.rates)
    changes["steps"] = Change.of([sample.clips_per_second for sample in settled])
    changes["machine"] = Change.of(blocks.machine)
    counts = {name: [getattr(sample, name) for sample in settled] for name in COUNTS}
    return StageSoak(
        stage,
        changes,
        blocks,
        {name: _ends(found) for name, found in counts.items()},
        (
            *(judge_memory(stage, name, changes[name]) for name in (*JUDGED, *ON_GPU) if name in changes),
            *(judge_count(stage, name, found) for name, found in counts.items()),
            judge_drift(stage, blocks.rates, blocks.machine),
        ),
    )


def judge_across(stages: Sequence[StageSoak]) -> tuple[Verdict, ...]:
    """Allow no more descriptors and threads at the end of a run than at the beginning of its first stage."""
    return tuple(
        judge_count(ACROSS, name, (stages[0].counts[name][0], *(stage.counts[name][1] for stage in stages)))
        for name in COUNTS
    )


def summary(verdicts: Sequence[Verdict]) -> str:
    """Say in a few lines what was broken, or that all limits were kept."""
    wrong = [verdict for verdict in verdicts if verdict.state != KEPT]
    lines = [f"{one.stage}: {one.what} {one.state}: {_described(one)}" for one in wrong]
    return "\n".join(lines) or f"all {len(verdicts)} limits kept"


def sheet(record: SoakRecord) -> Sheet:
    """Return the table."""
    sections = [Section(stage.stage, tuple(_rows(stage))) for stage in record.stages]
    across = [(one.what, "", "", f"{one.found:+.0f}", "", one.state) for one in record.across]
    return Sheet(COLUMNS, (*sections, Section(ACROSS, tuple(across))))


def markdown(record: SoakRecord) -> str:
    """Return the record as Markdown."""
    notes = [f"{one.stage}, {one.what}: {one.note}" for one in record.verdicts if one.note]
    remarks = [f"- {remark}" for remark in (*notes, *REMARKS)]
    return "\n".join([headline(record), "", *sheet_lines(sheet(record)), "", *remarks]) + "\n"


def headline(record: SoakRecord) -> str:
    """Where and how the record was taken, in a line."""
    stages = ",".join(stage.stage for stage in record.stages)
    how_often = (
        f"{len(record.stages) * record.epochs} epochs of {record.clips} clips of {record.data} in {stages}, the first "
        f"{record.warm_up} of each stage to warm up, {record.seconds / 60:.1f} minutes"
    )
    return circumstances(record, how_often)


def _ends(counts: Sequence[int]) -> tuple[int, int]:
    fifth = max(1, len(counts) // 5)
    return max(counts[:fifth]), max(counts[-fifth:])


def _rows(stage: StageSoak) -> Iterator[Row]:
    verdicts = {verdict.what: verdict.state for verdict in stage.verdicts}
    for name, title in {**JUDGED, **SHOWN, **ON_GPU}.items():
        if name in stage.changes:
            yield _row(title, stage.changes[name], 2**-20, " MiB", verdicts.get(name, ""))
    for name, title in COUNTS.items():
        first, last = stage.counts[name]
        yield title, str(first), str(last), f"{last - first:+d}", "", verdicts[name]
    yield _row("clips a second, all", stage.changes["all"], 1, "", verdicts["throughput"])
    yield _row("clips a second, steps alone", stage.changes["steps"], 1, "", "")
    yield _row("torch.mm, GFLOP/s", stage.changes["machine"], 1e-9, "", "")


def _row(title: str, change: Change, scale: float, unit: str, verdict: str) -> Row:
    low, high = change.interval
    return (
        title,
        with_spread(change.first, scale, unit),
        with_spread(change.last, scale, unit),
        f"{change.ends:+.2%}",
        f"{change.trend:+.2%} ({low:+.2%} to {high:+.2%})",
        verdict,
    )


def _described(verdict: Verdict) -> str:
    assert verdict.state in (BROKEN, UNDECIDED)
    if verdict.note:
        return verdict.note
    if verdict.limit == 0:
        return f"{short(verdict.found)} more at the end than at the beginning"
    return f"{verdict.found:+.2%}, where less than {verdict.limit:.0%} is allowed"
