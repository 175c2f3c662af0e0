"""The process in which hostile files are read tells how a reading ended, whatever it did."""

import mmap
import os
import pickle
import signal
import subprocess
import time
from pathlib import Path

import pytest

from crrl_fast.errors import DataError
from tests import bounded
from tests.bounded import FAILED, READ, REFUSED, BoundedProcess


def spin():
    while True:
        try:
            while True:
                pass
        except Exception as error:
            raise DataError("too slow") from error


def spin_without_python():
    sum(range(10**12))


def refuse():
    raise DataError("not mine")


@pytest.mark.parametrize(
    ("read", "outcome", "what"),
    [
        (lambda: 3, READ, "3"),
        (refuse, REFUSED, "not mine"),
        (lambda: int("x"), FAILED, "ValueError"),
        (spin, FAILED, "TooSlow"),
        (spin_without_python, FAILED, f"ended with code {-signal.SIGXCPU}"),
        (lambda: time.sleep(600), FAILED, "nothing came"),
        (lambda: mmap.mmap(-1, 1 << 40), FAILED, "Cannot allocate memory"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), FAILED, f"ended with code {-signal.SIGKILL}"),
        (lambda: subprocess.run(["true"], check=False), FAILED, "Forbidden"),
        (lambda: os.system("true"), FAILED, "Forbidden"),
        (lambda: pickle.loads(b"cos\nsystem\n."), FAILED, "Forbidden"),
        (lambda: Path("written").write_text("x"), FAILED, "Forbidden"),
        (lambda: Path("kept").unlink(), FAILED, "Forbidden"),
        (lambda: Path("kept").read_text(), READ, "kept"),
    ],
)
def test_how_a_reading_ends(monkeypatch, tmp_path, read, outcome, what):
    monkeypatch.chdir(tmp_path)
    Path("kept").write_text("kept")
    for name, seconds in (("SECONDS", 0.2), ("GRACE", 0.5), ("WAITING", 3 if what == "nothing came" else 60)):
        monkeypatch.setattr(bounded, name, seconds)
    process = BoundedProcess(lambda first, second: read() if first == "try" else second)
    try:
        ended, message = process("try", None)
        assert ended == outcome, message
        assert what in message
        assert process("again", "still here") == (READ, "still here")
    finally:
        process.close()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_folder_may_be_written(tmp_path):
    def write(name):
        Path(tmp_path, name).write_text(os.environ["CRRL_WORD"])
        Path(tmp_path, name).rename(tmp_path / "done")

    process = BoundedProcess(write, writable=tmp_path)
    try:
        assert process("x", CRRL_WORD="word")[0] == READ
        assert process("../x", CRRL_WORD="word")[0] == FAILED
    finally:
        process.close()
    assert (tmp_path / "done").read_text() == "word"
