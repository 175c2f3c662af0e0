"""Every reader ends in clips or in its own error, whatever its files hold; `make fuzz` does so at length."""

import mmap
import os
import signal
import time

import numpy as np
import pytest

from bench.foreign import LAYOUTS, ntu_clips
from crrl_fast.data import readers
from crrl_fast.data.layouts import NTU25
from crrl_fast.data.readers.base import Reader
from crrl_fast.data.recording import Recording
from crrl_fast.errors import DataError
from tests.data import fuzz
from tests.data.fuzz_targets import TARGETS
from tests.data.mutations import MUTATIONS, mutate_source

MUTATIONS_EACH = 30


@pytest.fixture(scope="module")
def keep(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz-failures")


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_sources_end_in_clips_or_problems(name, keep):
    outcomes, failures = fuzz.run([name], range(MUTATIONS_EACH), keep)
    assert not failures, "\n\n".join(map(str, failures))
    assert outcomes[name].total() == MUTATIONS_EACH
    assert outcomes[name]["problems"] > 0


@pytest.mark.parametrize("name", TARGETS)
def test_samples_are_read_whole(name, tmp_path):
    source = fuzz.write_sample(name, tmp_path / "sample")
    assert fuzz.outcome_of(name, source, collect=False) == "clips"
    assert fuzz.outcome_of(name, source, collect=True) == "clips"
    if name in LAYOUTS:
        assert readers.find_reader(source)[0].name == LAYOUTS[name].reader


def test_every_reader_has_a_sample():
    assert set(readers.READERS) <= {layout.reader for layout in LAYOUTS.values()}


def test_damage_depends_on_the_number_alone(tmp_path):
    source = fuzz.write_sample("ucla", tmp_path / "sample")
    copies = [
        {path.name: path.read_bytes() for path in mutate_source(source, tmp_path / str(i), generator).iterdir()}
        for i, generator in enumerate(np.random.default_rng(seed) for seed in (1, 1, 2))
    ]
    original = {path.name: path.read_bytes() for path in source.iterdir()}
    assert copies[0] == copies[1]
    assert copies[0] != copies[2]
    assert all(copy != original for copy in copies)


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("content", [b"", b"x", b"12 3.5\n-1e3\n" * 50, bytes(range(256))])
def test_every_kind_of_damage_takes_any_content(mutation, content):
    for seed in range(20):
        assert isinstance(mutation(content, np.random.default_rng(seed)), bytes)


def _raise_value_error(request):
    raise ValueError("not mine")


def _hang(request):
    time.sleep(60)


def _take_memory(request):
    mmap.mmap(-1, 1 << 40)


def _die(request):
    os.kill(os.getpid(), signal.SIGKILL)


def _hang_in_a_clip(request):
    def clips():
        try:
            time.sleep(60)
        except Exception as error:
            raise DataError("too slow") from error
        yield ntu_clips(1)[0]

    return Recording(NTU25, clips(), class_names=["x"] * 16)


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (_raise_value_error, "ValueError: not mine"),
        (_hang, "TooSlow"),
        (_hang_in_a_clip, "TooSlow"),
        (_take_memory, "Cannot allocate memory"),
        (_die, "ended with code -9"),
    ],
)
def test_a_bad_reader_is_found_out(monkeypatch, tmp_path, read, what):
    monkeypatch.setitem(readers.READERS, "ucla", Reader("ucla", "bad", lambda source: None, read))
    monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    outcomes, failures = fuzz.run(["ucla"], range(7, 9), tmp_path)
    assert outcomes["ucla"] == {"failures": 2}
    assert [failure.number for failure in failures] == [7, 8]
    assert all(what in str(failure) for failure in failures), failures[0]
    assert "--targets 'ucla' --first 8 --mutations 1" in str(failures[1])
    assert list(failures[0].kept.rglob("*.json"))
