"""One job at a time in a folder."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from crrl_fast.errors import ConfigError
from crrl_fast.lock import LOCK_FILE, FolderLock, folder_lock

HOLD = """
import sys, time
from pathlib import Path
from crrl_fast.lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Return another process that holds the lock of ``tmp_path``."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_job_is_told_who_is_first(tmp_path, holder):
    with (
        pytest.raises(ConfigError, match=f"another job is writing it .process {holder.pid} on {socket.gethostname()}."),
        folder_lock(tmp_path),
    ):
        pass
    assert (tmp_path / LOCK_FILE).exists()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK_FILE).exists()
    with folder_lock(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK_FILE).read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_of_this_process_counts_too(tmp_path):
    with folder_lock(tmp_path), pytest.raises(ConfigError, match="another job"), folder_lock(tmp_path):
        pass
    with folder_lock(tmp_path):
        pass


def count_up(folder, times):
    for _ in range(times):
        while True:
            try:
                with folder_lock(folder):
                    path = folder.parent / "count"
                    number = int(path.read_text())
                    path.write_text(str(number + 1))
                break
            except ConfigError:
                continue


def test_two_never_hold_it_at_once(tmp_path):
    """The file is removed and made anew all the time, which must let nobody lock one that is gone."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "count").write_text("0")
    context = multiprocessing.get_context("fork")  # quick, and what runs in it touches no tensor
    processes = [context.Process(target=count_up, args=(folder, 100)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert (tmp_path / "count").read_text() == "300"


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be written to"), folder_lock(tmp_path / "absent"):
        pass


def test_a_lock_whose_file_was_removed_is_held_anew(tmp_path):
    with folder_lock(tmp_path) as lock:
        lock.keep()
        (tmp_path / LOCK_FILE).unlink()
        lock.keep()
        with (
            pytest.raises(ConfigError, match=f"another job is writing it .process {os.getpid()} "),
            folder_lock(tmp_path),
        ):
            pass
    assert list(tmp_path.iterdir()) == []


def test_who_comes_meanwhile_has_it(tmp_path):
    lock = FolderLock(tmp_path)
    (tmp_path / LOCK_FILE).unlink()
    with folder_lock(tmp_path):
        with pytest.raises(ConfigError, match=r"\.lock was removed .* another job writes it now .process \d+ on "):
            lock.keep()
        lock.release()
        assert (tmp_path / LOCK_FILE).exists()
