"""Feeds damaged files to whatever reads them: each run has to end well or in a CrrlError, in bounded time and memory.

    python -m tests.data.fuzz [--mutations 10000] [--targets ucla,run] [--first 0] [--keep fuzz-failures]

The mutations are shared out among the targets; the same target and number give the same damage. A source that ends
otherwise is kept and its traceback printed, with the command that repeats it.
"""

import argparse
import multiprocessing
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from crrl_fast.errors import CrrlError
from tests.data.fuzz_targets import TARGETS
from tests.hostile import MORE_MEMORY, address_space

SECONDS = 5
"""A sample of a few kilobytes is read in milliseconds."""

GRACE = 10
"""Seconds until a process is ended that its own alarm did not end: it is not in Python code."""


class TooSlow(BaseException):
    """Raised by the alarm; no reader's ``except Exception`` takes it for a problem of the file."""


@dataclass(frozen=True)
class Failure:
    """A run that ended neither well nor in a CrrlError.

    Attributes:
        target: what was damaged.
        number: of the mutation.
        what: the traceback, or how the process ended.
        kept: a copy of the damaged source.
    """

    target: str
    number: int
    what: str
    kept: Path

    def __str__(self) -> str:
        """Return a report that says how to repeat it."""
        command = f"python -m tests.data.fuzz --targets '{self.target}' --first {self.number} --mutations 1"
        return f"{self.target}, mutation {self.number}: {self.what.strip()}\nkept in {self.kept}; repeat: {command}"


def write_sample(target: str, folder: Path) -> Path:
    """Write the good sample of a target; return the source."""
    folder.mkdir(parents=True)
    return TARGETS[target].write(folder)


def run(names: Sequence[str], numbers: range, keep: Path) -> tuple[dict[str, Counter], list[Failure]]:
    """Damage and read the sample of each target under each number.

    Returns:
        How many runs of each target ended in clips, in problems and in failures; and the failures.
    """
    outcomes: dict[str, Counter] = {name: Counter() for name in names}
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        for place, name in enumerate(names):
            sample = write_sample(name, Path(folder, "samples", f"{place}"))
            for number, damaged, outcome in _runs(name, sample, numbers, Path(folder, "damaged")):
                if outcome not in ("clips", "problems"):
                    kept = keep / f"{name.replace(': ', '-')}-{number}"
                    shutil.rmtree(kept, ignore_errors=True)
                    shutil.copytree(damaged, kept)
                    failures.append(Failure(name, number, outcome, kept))
                    outcome = "failures"
                shutil.rmtree(damaged, ignore_errors=True)
                outcomes[name][outcome] += 1
    return outcomes, failures


def _runs(name: str, sample: Path, numbers: range, folder: Path) -> Iterator[tuple[int, Path, str]]:
    """Yield (number, damaged copy, outcome), from a process that is replaced where it ends."""
    # The readers, as a test may have changed them, are inherited.
    context = multiprocessing.get_context("fork")
    while numbers:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, name, sample, numbers, folder))
        process.start()
        theirs.close()
        try:
            for number in numbers:
                outcome = _receive(ours)
                if outcome is None:
                    process.kill()
                    process.join()
                    outcome = f"the process hung for {SECONDS + GRACE} s, or ended with code {process.exitcode}"
                yield number, folder / str(number), outcome
                numbers = numbers[1:]
                if process.exitcode is not None:
                    break
                ours.send("next")
        finally:
            ours.close()
            process.join(GRACE)
            process.kill()


def _receive(connection: Connection) -> str | None:
    try:
        return str(connection.recv()) if connection.poll(SECONDS + GRACE) else None
    except (EOFError, ConnectionResetError):
        return None


def _work(connection: Connection, name: str, sample: Path, numbers: range, folder: Path) -> None:
    """Read one damaged copy after the other, each once the parent is done with the one before."""
    from tests.data.mutations import mutate_source

    torch.set_num_threads(1)  # the parent's threads are not inherited, and work would wait for them for ever
    limit = address_space() + MORE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _raise_too_slow)
    for number in numbers:
        # Targets differ in their names' bytes, so in their streams, too.
        rng = np.random.default_rng([number, *name.encode()])
        source = mutate_source(sample, folder / str(number), rng)
        connection.send(outcome_of(name, source, collect=number % 2 == 0))
        try:
            connection.recv()
        except EOFError:
            return


def outcome_of(name: str, source: Path, *, collect: bool) -> str:
    """Read a source: ``clips``, ``problems`` where a CrrlError was raised or reported, or else the traceback.

    Args:
        name: of the target.
        source: to read.
        collect: whether problems are noted, as under ``--check``, or end the reading.
    """
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        return TARGETS[name].read(source, collect)
    except CrrlError:
        return "problems"
    except BaseException:
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _raise_too_slow(signum: int, frame: object) -> None:
    raise TooSlow(f"not done after {SECONDS} s")


def main() -> int:
    """Parse, run, print; the exit code is 1 where there was a failure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--mutations", type=int, default=10_000, help="over all targets")
    parser.add_argument("--targets", help=f"comma-separated, of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation of each target")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="folder for sources that failed")
    arguments = parser.parse_args()
    names = arguments.targets.split(",") if arguments.targets else list(TARGETS)
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        parser.error(f"unknown target {unknown[0]!r}: choose from {', '.join(TARGETS)}")
    each = -(-arguments.mutations // len(names))
    outcomes, failures = run(names, range(arguments.first, arguments.first + each), arguments.keep)
    for failure in failures:
        print(failure, end="\n\n")
    for name, counts in outcomes.items():
        print(f"{name}: " + ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("clips", "problems", "failures")))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
