import pickle
import zipfile
import zlib

import numpy as np
import pytest

from crrl_fast.data.readers.arrays import open_npy, open_npz
from crrl_fast.data.readers.npy import parse_npy
from crrl_fast.data.readers.pickles import load_pickle
from crrl_fast.errors import DataError

ARRAYS = {
    "long": np.arange(400_000.0).reshape(1000, 400),  # several blocks
    "wide": np.arange(600_000, dtype=np.int32).reshape(2, 300_000),  # rows longer than a block
    "flat": np.arange(3000, dtype=np.int16),
    "fortran": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    "empty": np.zeros((0, 111, 150), np.float32),
    "objects": np.array([np.arange(3), [1, 2], None], dtype=object),
    "swapped": np.arange(5, dtype=">f8"),
    "text": np.array(["ab", "c"]),
}


def header(text, version=1):
    size = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + text.encode("latin1")


@pytest.mark.parametrize("compressed", [False, True])
def test_rows_come_back_from_npy_and_npz(tmp_path, compressed):
    path = tmp_path / "all.npz"
    (np.savez_compressed if compressed else np.savez)(path, **ARRAYS)
    members = open_npz(path)
    assert list(members) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        np.save(tmp_path / "one.npy", expected)
        for array in (open_npy(tmp_path / "one.npy"), members[name]):
            assert (array.shape, array.dtype, len(array)) == (expected.shape, expected.dtype, len(expected))
            for _ in range(2):  # rows can be gone through again
                rows = list(array.rows())
                assert len(rows) == len(expected)
                assert all(map(np.array_equal, rows, expected))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a .npy array"),
        (b"\x93NUMPY", "not a .npy array"),
        (b"PK\3\4 and more", "not a .npy array"),
        (header("{}", version=9), "format 9.0"),
        (header("no header"), "not a .npy array"),
        (header("(" * 5000), "not a .npy array"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}") + bytes(11), "cut short"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999, 9999999)}"), "cut short"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"), "no array of numbers"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': ()}") + bytes(4), "no array of numbers"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (99, 0)}"), "no array of numbers"),
        (header("{'descr': '<U0', 'fortran_order': False, 'shape': (999999999,)}"), "no array of numbers"),
        (header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}") + bytes(4), "no array of numbers"),
        (b"\x93NUMPY\2\0" + b"\xff" * 4, "header of 4294967295 bytes"),
    ],
)
def test_malformed_npy_files_are_refused(tmp_path, content, message):
    path = tmp_path / "bad.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_npy(path)
    assert str(path) in str(caught.value)


def test_objects_other_than_announced_are_refused(tmp_path):
    path = tmp_path / "objects.npy"
    np.save(path, ARRAYS["objects"])
    path.write_bytes(path.read_bytes().replace(b"(3,)", b"(4,)"))
    with pytest.raises(DataError, match=r"announces objects of shape \(4,\)"):
        list(open_npy(path).rows())


def test_missing_files_are_named(tmp_path):
    for opening in (open_npy, open_npz):
        with pytest.raises(DataError, match="absent"):
            opening(tmp_path / "absent")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x_train.npy", "w") as member:
        member.write(header("{'descr': '<f4', 'fortran_order': False, 'shape': (20, 1048576)}"))
        for _ in range(80):
            member.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 18
    with pytest.raises(DataError, match=r"x_train\.npy unpacks from .* a zip bomb, or empty; .* np\.savez"):
        open_npz(path)


def test_a_member_that_is_not_what_it_claims_is_named(tmp_path):
    path = tmp_path / "bad.npz"
    np.savez(path, x=np.arange(100))
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.npz.*x\.npy"):
        list(open_npz(path)["x"].rows())


def test_a_row_too_large_for_a_clip_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("crrl_fast.data.readers.arrays._MAX_ROW", 1000)
    np.save(tmp_path / "a.npy", np.zeros((2, 1000)))
    with pytest.raises(DataError, match=r"shape \(2, 1000\) makes clips of 8000 bytes"):
        list(open_npy(tmp_path / "a.npy").rows())


def test_what_must_be_whole_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("crrl_fast.data.readers.arrays.MAX_LOADED", 100)
    np.savez(tmp_path / "a.npz", **ARRAYS)
    members = open_npz(tmp_path / "a.npz")
    for name, message in [("fortran", "Fortran order"), ("objects", "bytes of objects")]:
        with pytest.raises(DataError, match=message):
            list(members[name].rows())
    with pytest.raises(DataError, match="no more than 100"):
        members["flat"].load()
    assert zlib.crc32(np.array(list(members["swapped"].rows())).tobytes()) == zlib.crc32(
        ARRAYS["swapped"].astype("<f8")
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_text_that_is_none_is_refused(tmp_path, order):
    path = tmp_path / "names.npy"
    np.save(path, np.array(["ab", "cd"]).astype(f"{order}U2"))
    content = bytearray(path.read_bytes())
    content[-4:] = b"\xff" * 4
    path.write_bytes(content)
    with pytest.raises(DataError, match="character 4294967295, which does not exist"):
        open_npy(path).load()
    with pytest.raises(DataError, match="character 4294967295, which does not exist"):
        parse_npy("names", bytes(content))
    bad = np.frombuffer(bytes(content[-8:]), f"{order}U2")
    for hostile in (bad, [bad[:1]]):
        (tmp_path / "names.pkl").write_bytes(pickle.dumps(hostile))
        with pytest.raises(DataError, match="does not exist"):
            load_pickle(tmp_path / "names.pkl")
