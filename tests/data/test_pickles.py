import collections
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from crrl_fast.data.readers.arrays import open_npy
from crrl_fast.data.readers.pickles import load_pickle
from crrl_fast.errors import DataError

PLAIN = [
    *(None, True, False, -5, 2**70, 1.5, float("inf"), "", "é\n", b"", b"\0\xff", (), (1,), (1, 2, 3, 4)),
    *({"a": [1, (2, 3)], 4: {}}, [[]] * 3, {1, "two"}, set(), frozenset([1, 2]), collections.OrderedDict(x=1, y=[2])),
    *(np.float32(3), np.int64(-4), np.bool_(True), np.str_("x"), np.float16(0.5)),
    *(np.arange(3, dtype="f4"), np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3))),
    *(np.arange(10)[::-2], np.zeros((0, 3)), np.array(7), np.arange(3, dtype=">i2"), np.array([True, False])),
    *(np.array(["ab", "c"]), np.array([b"ab"]), np.array([np.arange(3.0), None, [1, 2]], dtype=object)),
]


class Calls:
    """Pickles to a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def write(path, value, protocol=4):
    path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol=protocol))
    return path


def same(one, other):
    if isinstance(one, np.ndarray) and one.dtype == object:
        return one.shape == other.shape and all(map(same, one.ravel(), other.ravel()))
    if isinstance(one, np.ndarray):
        return one.dtype.kind == other.dtype.kind and np.array_equal(one, other)
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers_come_back_from_every_protocol(tmp_path, protocol):
    for i, value in enumerate(PLAIN):
        assert same(load_pickle(write(tmp_path / f"{i}.pkl", pickle.dumps(value, protocol))), value), value


def test_arrays_of_numpy_1_are_read(tmp_path):
    value = [np.arange(3, dtype="f4"), np.float64(2)]
    for protocol in (2, 3):
        content = pickle.dumps(value, protocol).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        assert all(map(same, load_pickle(write(tmp_path / "a.pkl", content)), value))


def test_shared_and_cyclic_values_stay_so(tmp_path):
    array, cycle = np.arange(2), []
    cycle.append(cycle)
    first, second, loop = load_pickle(write(tmp_path / "a.pkl", [array, array, cycle]))
    assert first is second
    assert loop[0] is loop


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("wrapped", ["bare", "nested", "object array", ".npy"])
@pytest.mark.parametrize(
    ("call", "named"),
    [
        ((os.system, "touch {}"), r"posix\.system|nt\.system"),
        ((eval, "open({!r}, 'w')"), r"(__builtin__|builtins)\.eval"),
        ((exec, "open({!r}, 'w')"), r"(__builtin__|builtins)\.exec"),
        ((getattr, 1, "real"), r"(__builtin__|builtins)\.getattr"),
        ((np.load, "{}"), r"numpy\.load"),
        ((torch.FloatStorage, 3), r"torch\.(storage\.)?FloatStorage"),
    ],
)
def test_calls_are_refused_by_name_and_not_run(tmp_path, call, named, wrapped, protocol):
    canary = tmp_path / "canary"
    function, *arguments = call
    payload = Calls(function, *(x.format(str(canary)) if isinstance(x, str) else x for x in arguments))
    path = tmp_path / "data.pkl"
    with pytest.raises(DataError, match=named) as caught:
        if wrapped == ".npy":
            path = tmp_path / "data.npy"
            np.save(path, np.array([payload, None], dtype=object))
            list(open_npy(path).rows())
        else:
            value = {
                "bare": payload,
                "nested": {"annotations": [{"frame_dir": (1, [payload])}]},
                "object array": np.array([payload, None], dtype=object),
            }[wrapped]
            load_pickle(write(path, value, protocol))
    assert str(path) in str(caught.value)
    assert "Nothing was run" in str(caught.value)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"(S'true'\nios\nsystem\n.", r"os\.system"),  # INST
        (b"cos\nsystem\n(S'true'\ntR.", r"os\.system"),
        (b"cnumpy\nndarray\n(I9\ntR.", r"a call of numpy\.ndarray"),
        (b"cnumpy\ndtype\n(S'f4'\nt\x81.", "NEWOBJ"),
        (b"Pid\n.", "PERSID"),
        (b"\x82\x01.", "EXT1"),
        (b"]}b.", "a list to be given a state"),
    ],
)
def test_other_instructions_are_refused(tmp_path, content, named):
    with pytest.raises(DataError, match=named):
        load_pickle(write(tmp_path / "a.pkl", content))


def test_objects_and_tensors_are_refused(tmp_path):
    for value, named in [(Path("x"), "PosixPath|WindowsPath"), (torch.ones(2), r"torch\._utils\._rebuild_tensor_v2")]:
        with pytest.raises(DataError, match=named):
            load_pickle(write(tmp_path / "a.pkl", value))


def array_state(
    shape=b"K\x03\x85", dtype=b"f4", state=b"K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00", raw=12
):
    """Return a pickle of an array, written by hand so that it can lie."""
    data = b"C" + bytes([raw]) + bytes(raw)
    kind = b"cnumpy\ndtype\nU" + bytes([len(dtype)]) + dtype + b"\x89\x88\x87R(" + state + b"tb"
    head = b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return b"\x80\x03" + head + b"(K\x01" + shape + kind + b"\x89" + data + b"tb."


def test_arrays_that_lie_about_themselves_are_refused(tmp_path):
    assert load_pickle(write(tmp_path / "a.pkl", array_state())).tolist() == [0, 0, 0]
    huge = b"J\xff\xff\xff\x7f\x85"
    filled_twice = array_state()[:-1] + array_state()[array_state().index(b"(K\x01K\x03") :]
    for content in [
        filled_twice,
        array_state(shape=huge),
        array_state(shape=b"J\xff\xff\xff\xff\x85"),
        array_state(shape=huge, dtype=b"U0", raw=0),
        array_state(shape=huge, dtype=b"O8", raw=0),
        array_state(dtype=b"V4"),
        array_state(dtype=b"f4,f4,f4"),
        array_state(dtype=b"(9999999,)f4"),
        array_state(state=b"K\x03U\x01<NU\x01a}J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"),
        array_state().replace(b"K\x00\x85U\x01b", huge + b"U\x01b"),
    ]:
        with pytest.raises(DataError, match="damaged pickle"):
            load_pickle(write(tmp_path / "a.pkl", content))


def test_a_dtype_never_reaches_numpys_own(tmp_path):
    swapped = array_state().replace(b"U\x01<", b"U\x01>")
    # Sizes and flags that are not NumPy's own would make it read beyond its memory.
    flags = array_state(state=b"K\x03U\x01<NNNK\x63K\x63K\x3f")
    for content in (swapped, flags):
        assert load_pickle(write(tmp_path / "a.pkl", content)).dtype.itemsize == 4
    assert np.dtype("f4").isnative
    assert np.dtype("f4").flags == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"no pickle",
        b"K\x01",
        b"0.",
        b"e.",
        b"h\x07.",
        b"r\xff\xff\xff\x7f.",  # a memo index of two billion
        b"j\xff\xff\xff\x7f.",
        b"T\xff\xff\xff\x7fabc.",
        b"\x8e" + struct.pack("<Q", 1 << 60) + b"abc.",
        b"\x95" + struct.pack("<Q", 1 << 60) + b"K\x01",
        b"I" + b"9" * 10_000 + b"\n.",
        b"}" + b")" + b"\x85" * 200_000 + b"K\x01s.",  # a deeply nested key
        b"\x8f(" + b")" + b"\x85" * 200_000 + b"\x90.",
    ],
)
def test_damaged_pickles_are_refused(tmp_path, content):
    with pytest.raises(DataError, match=r"a\.pkl"):
        load_pickle(write(tmp_path / "a.pkl", content))


def test_deep_nesting_is_read_and_freed(tmp_path):
    value = load_pickle(write(tmp_path / "a.pkl", b")" + b"\x85" * 200_000 + b"."))
    assert isinstance(value, tuple)
    del value


def nested_arrays(depth, listed=False):
    """Return a pickle of object arrays within each other, or in lists within each other, made before their content."""
    make = b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    kind = b"cnumpy\ndtype\nU\x02O8\x89\x88\x87Rq\x00"
    item = b"](j%se" if listed else b"j%s"
    content = [b"\x80\x03", kind]
    for i in range(1, depth + 1):
        content += [make, b"r", struct.pack("<I", i)]
    for i in range(1, depth):
        inner = item % struct.pack("<I", i + 1)
        content += [b"j", struct.pack("<I", i), b"(K\x01K\x01\x85h\x00\x89](", inner, b"etb"]
    return b"".join([*content, b"h\x01."])


def test_arrays_within_arrays_are_refused(tmp_path):
    with pytest.raises(DataError, match="object array within an object array"):
        load_pickle(write(tmp_path / "a.pkl", nested_arrays(2)))


def test_arrays_in_lists_in_arrays_are_read_and_freed(tmp_path):
    value = load_pickle(write(tmp_path / "a.pkl", nested_arrays(30_000, listed=True)))
    assert isinstance(value[0][0][0], list)
    del value


def test_what_unpacks_to_more_than_the_file_is_refused(tmp_path):
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x00"
    again = b"c_codecs\nencode\nh\x00U\x06latin1\x86R"
    with pytest.raises(DataError, match="unpacks to more than the file"):
        load_pickle(write(tmp_path / "a.pkl", b"](" + text + again * 50 + b"e."))


def test_a_program_without_end_is_left(tmp_path, monkeypatch):
    path = write(tmp_path / "a.pkl", [[] for _ in range(1000)])
    assert load_pickle(path) == [[]] * 1000
    monkeypatch.setenv("CRRL_LIMITS", "objects=500")
    with pytest.raises(DataError, match=r"a\.pkl: .*more than 500 instructions; .*CRRL_LIMITS=objects="):
        load_pickle(path)
