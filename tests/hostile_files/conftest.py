"""Reading of hostile files in a process of its own, with little memory and a clock."""

import importlib
from pathlib import Path

import pytest

from crrl_fast.versions import software_versions
from tests.bounded import REFUSED, BoundedProcess
from tests.hostile import READINGS

IMPORTED = (
    *("crrl_fast.embedding", "crrl_fast.report.build", "crrl_fast.training.pretrain"),
    *("tensorboard.summary.writer.record_writer", "torch._dynamo"),
)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """Return a process that gets a kind of file and a path, and reads it."""
    # What is imported on the way, and what git is asked, once, is no part of reading.
    for name in IMPORTED:
        importlib.import_module(name)
    software_versions()
    reader = BoundedProcess(lambda kind, path: READINGS[kind](path), writable=tmp_path_factory.getbasetemp())
    yield reader
    reader.close()


@pytest.fixture
def refused(reader):
    """Return a function that reads a file under limits and returns the message of the error in which it has to end."""

    def read(kind: str, path: Path, **environment: str) -> str:
        outcome, message = reader(kind, path, **environment)
        assert outcome == REFUSED, (outcome, message)
        assert str(path) in message
        assert len(message) < 2000
        return message

    return read
