"""Whatever its files hold, reading ends well or in a CrrlError, in bounded time and memory, and runs nothing.

`make fuzz` does so at length. The damage that fails is made as small as it can be, printed, remembered in
``.hypothesis`` and tried first from then on; the damaged source is kept in ``fuzz-failures``.
"""

import os
import shutil
from pathlib import Path

import pytest

from bench.foreign import LAYOUTS
from crrl_fast.data import readers
from tests.bounded import FAILED, READ, REFUSED, BoundedProcess
from tests.fuzz.damage import Files
from tests.fuzz.targets import SOURCES, TARGETS
from tests.property_based import given

KEPT = Path(os.environ.get("CRRL_FUZZ_FAILURES", "fuzz-failures"))


def files_of(folder: Path) -> Files:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_files(folder: Path, files: Files) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_sources_are_read_or_refused(tmp_path, name):
    target = TARGETS[name]
    sample = tmp_path / "sample"
    sample.mkdir()
    source = target.write(sample).relative_to(sample)
    good = files_of(sample)
    # A place of the same name for all, because names are part of what is read.
    folder = tmp_path / "damaged"
    read = BoundedProcess(target.read, folder if target.writes else None)
    outcomes = []

    @given(target.damaged(good))
    def check(files):
        write_files(folder, files)
        outcome, what = read(folder / source)
        outcomes.append(outcome)
        if outcome == FAILED:
            write_files(KEPT / name.replace(": ", "-"), files)
            pytest.fail(f"{what}\nkept in {KEPT / name.replace(': ', '-')}", pytrace=False)

    try:
        write_files(folder, good)
        outcome, what = read(folder / source)
        assert outcome == READ, what
        check()
    finally:
        read.close()
    assert REFUSED in outcomes  # damage was done, and was noticed


@pytest.mark.parametrize("name", SOURCES)
def test_samples_are_recognised(name, tmp_path):
    assert readers.find_reader(TARGETS[name].write(tmp_path))[0].name == SOURCES[name].reader


def test_every_reader_has_a_sample():
    assert set(readers.READERS) <= {layout.reader for layout in LAYOUTS.values()}
