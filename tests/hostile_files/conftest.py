"""Reading of hostile files in a process of its own, with little memory and a clock."""

from pathlib import Path

import pytest

from tests.hostile import BoundedReader


@pytest.fixture(scope="module")
def reader():
    reader = BoundedReader()
    yield reader
    reader.close()


@pytest.fixture
def refused(reader):
    """Return a function that reads a file under limits and returns the message of the error in which it has to end."""

    def read(kind: str, path: Path, **environment: str) -> str:
        outcome, message = reader.read(kind, path, **environment)
        assert outcome == "refused", (outcome, message)
        assert str(path) in message
        assert len(message) < 2000
        return message

    return read
