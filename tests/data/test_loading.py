import gc
import os
import threading
import weakref
from pathlib import Path

import pytest
import torch

from crrl_fast.data import catalog, loading
from crrl_fast.data.file_version import FileVersion, FileWatch, change
from crrl_fast.data.loading import load_store
from crrl_fast.data.store import Store
from crrl_fast.errors import DataError
from tests.stores import save_with_stale_hash


def same(one, other):
    return one.info == other.info and torch.equal(one.frames, other.frames) and torch.equal(one.labels, other.labels)


def test_what_is_loaded_is_what_is_opened_and_no_file_lies_behind_it(tiny_path):
    opened = Store.open(tiny_path)
    loaded = load_store(tiny_path)
    assert loaded.path == tiny_path
    assert loaded.version == FileVersion.of(tiny_path.stat())
    assert same(loaded.store, opened)
    want = opened.frames.clone()
    del opened
    assert str(tiny_path) not in Path("/proc/self/maps").read_text()
    os.truncate(tiny_path, 0)
    assert torch.equal(loaded.store.frames, want)


def test_a_store_is_in_memory_once_for_all_who_hold_it(tiny_path, tiny_store):
    first = load_store(tiny_path).store
    assert load_store(str(tiny_path)).store is first
    tiny_store.save(tiny_path)  # another file, of the same content
    assert load_store(tiny_path).store is not first
    kept = weakref.ref(first)
    del first
    gc.collect()
    assert kept() is None


def test_tensors_that_do_not_have_the_recorded_hash(tiny_store, tiny_path):
    tiny_store.frames[3, 3] += 1
    save_with_stale_hash(tiny_store, tiny_path)
    with pytest.raises(DataError, match=r"tiny\.safetensors: damaged, or changed since it was prepared .*prepare it"):
        load_store(tiny_path)
    tiny_store.save(tiny_path)
    assert load_store(tiny_path).store.digest() == tiny_store.digest()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda path: os.truncate(path, 5000), "was cut short while it was read"),
        (Path.unlink, r"has vanished .* while it was read"),
        (os.utime, r"was written to .* while it was read"),
    ],
)
def test_a_file_that_changes_while_it_is_read(tiny_path, monkeypatch, fault, message):
    parse = loading.parse_header

    def slow(path, header):
        fault(path)
        return parse(path, header)

    monkeypatch.setattr(loading, "parse_header", slow)
    with pytest.raises(DataError, match=message):
        load_store(tiny_path)


def test_what_is_no_store(tiny_path, tmp_path):
    for name, content in {"absent": None, "short": tiny_path.read_bytes()[:-1], "text": b"no store"}.items():
        path = tmp_path / f"{name}.safetensors"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError, match=f"{path}: "):
            load_store(path)
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(DataError, match="no such file"):
        load_store(tmp_path / "pipe.safetensors")


def test_more_than_there_is_memory_for(tiny_path, monkeypatch):
    monkeypatch.setattr(loading, "available_memory", lambda: 1000)
    with pytest.raises(DataError, match=r"takes .* of memory, and 1e-06 GB are free: .*downsample=30"):
        load_store(tiny_path)
    monkeypatch.setattr(loading, "available_memory", lambda: None)  # a system that does not say
    load_store(tiny_path)


def test_the_demo_is_generated_again_where_it_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("CRRL_DATA", str(tmp_path))
    store, path, _ = catalog.load_data("demo")
    with path.open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(bytes(8))
    assert same(catalog.load_data("demo").store, store)
    monkeypatch.chdir(tmp_path)
    Path("demo").write_bytes(b"a file of the user's own")
    with pytest.raises(DataError, match=r"^demo: "):
        catalog.load_data("demo")
    assert Path("demo").read_bytes() == b"a file of the user's own"


def test_changes_are_told_once_each(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    version = FileVersion.of(path.stat())
    watch = FileWatch(path, version)
    assert watch.news() is None
    path.write_bytes(b"longer content")
    assert watch.news() == "was written to (7 bytes, now 14)"
    assert watch.news() is None
    (tmp_path / "other").write_bytes(b"another")  # before the number of the first is free again
    path.unlink()
    assert watch.news().startswith("has vanished")
    (tmp_path / "other").rename(path)
    assert watch.news().startswith("was replaced by another file (as large as before, last written ")
    assert change(path / "below", version) == "cannot be reached any more (Not a directory)"


def test_threads_may_load_at_once(tiny_path):
    found = []
    threads = [threading.Thread(target=lambda: found.append(load_store(tiny_path).store)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(store, found[0]) for store in found)
    assert len(found) == 4
