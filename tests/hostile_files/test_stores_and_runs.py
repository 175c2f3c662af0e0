"""Hostile stores, checkpoints and run folders, and what is said of hostile files."""

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from crrl_fast.data.store import Store
from crrl_fast.data.tensor_header import read_tensor_header
from crrl_fast.errors import ConfigError, DataError
from crrl_fast.limits import limit
from tests.conftest import random_walks
from tests.embedding.runs import make_run

# ---- Stores and checkpoints ----


def with_header(path: Path, change) -> None:
    """Rewrite the header of a safetensors file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    text = change(content[8 : 8 + length])
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def changed(name: str, **values):
    def change(text: bytes) -> bytes:
        header = json.loads(text)
        header[name].update(values)
        return json.dumps(header).encode()

    return change


HEADERS = {
    "no JSON": lambda text: b"\xff" * 100,
    "a list": lambda text: b"[1]",
    "deep": lambda text: b'{"a":' * 100_000,
    "deep in metadata": lambda text: text.replace(b'"__metadata__": {', b'"__metadata__": {"x": ' + b"[" * 90_000, 1),
    "a name twice": lambda text: (
        text[:1] + b'"labels": {"dtype": "I64", "shape": [0], "data_offsets": [0, 0]},' + text[1:]
    ),
    "overlapping": changed("labels", data_offsets=[0, 24 * 8]),
    "a gap": changed("frames", data_offsets=[10**6, 10**6 + 16]),
    "beyond the file": changed("frames", data_offsets=[0, 1 << 62], shape=[1 << 40, 60]),
    "gigantic": changed("frames", shape=[1 << 62, 1 << 62]),
    "negative": changed("frames", shape=[-1, -60]),
    "a dtype": changed("frames", dtype="F128"),
    "other dtype": changed("labels", dtype="F64"),
    "a text as shape": changed("frames", shape="60"),
    "many tensors": lambda text: json.dumps(
        {str(i): {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(20_000)}
    ).encode(),
}


@pytest.fixture
def run_folder(tmp_path):
    store = Store.from_arrays(random_walks(4), layout="kinect20", labels=[0, 1, 0, 1])
    store.save(tmp_path / "store.safetensors")
    return make_run(tmp_path / "run", store, tmp_path / "store.safetensors", stages=("ser",)).path


@pytest.mark.parametrize("name", HEADERS)
def test_headers_of_stores(tiny_path, name):
    with_header(tiny_path, HEADERS[name])
    with pytest.raises(DataError, match=r"tiny\.safetensors") as error:
        Store.open(tiny_path)
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize("name", [name for name in HEADERS if name not in ("beyond the file",)])
def test_headers_of_checkpoints(run_folder, name):
    from crrl_fast.run import RunFolder

    path = run_folder / "ser.safetensors"
    first, second, *_ = (f'"{name}"'.encode() for name in read_tensor_header(path).tensors)
    text = path.read_bytes()
    with_header(path, lambda text: HEADERS[name](text.replace(first, b'"frames"').replace(second, b'"labels"')))
    assert path.read_bytes() != text
    with pytest.raises(ConfigError, match=r"ser\.safetensors: not a usable checkpoint"):
        RunFolder.open(run_folder).load_encoder("ser")


@pytest.mark.parametrize("length", [1 << 63, (1 << 64) - 1, 1 << 30])
def test_a_huge_header(refused, tiny_path, length):
    tiny_path.write_bytes(struct.pack("<Q", length) + tiny_path.read_bytes()[8:])
    os.truncate(tiny_path, 1 << 31)  # sparse
    assert "announces a header" in refused("store", tiny_path)


def test_offsets_that_wrap_around(tiny_path):
    tensors = load_file(tiny_path)
    offsets, frames = tensors["offsets"], len(tensors["frames"])
    offsets[1:5] = torch.tensor([1 << 62, (1 << 63) - 1, -(1 << 63) + 5, -(1 << 62)])
    offsets[5:] = torch.arange(frames - 19, frames + 1)
    offsets[-1] = frames
    save_file(tensors, tiny_path, dict(read_tensor_header(tiny_path).metadata))
    with pytest.raises(DataError, match="the clip offsets do not rise"):
        Store.open(tiny_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.update({k: v.double() for k, v in state.items()}), "is F64"),
        (lambda state: next(iter(state.values())).fill_(float("nan")), "not finite"),
        (lambda state: next(iter(state.values())).fill_(float("inf")), "not finite"),
        (lambda state: state.pop(next(iter(state))), "is missing"),
        (lambda state: state.update({"encoder.more": torch.zeros(2)}), "is unknown"),
        (lambda state: state.update({k: v[None].clone() for k, v in state.items()}), "expected F32"),
    ],
)
def test_weights(run_folder, change, message):
    from crrl_fast.run import RunFolder

    path = run_folder / "ser.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)
    with pytest.raises(ConfigError, match=rf"ser\.safetensors: not a usable checkpoint .*{message}"):
        RunFolder.open(run_folder).load_encoder("ser")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("whitening.1.matrix"), "1.matrix' is missing"),
        (lambda state: state.update({"whitening.2.mean": torch.zeros(16)}), "2.mean' is unknown"),
        (lambda state: state["whitening.0.mean"].fill_(float("nan")), "whitening.0.mean has values that are not"),
        (
            lambda state: state["whitening.1.matrix"][3].fill_(float("inf")),
            "whitening.1.matrix has values that are not",
        ),
        (
            lambda state: state.update({"whitening.0.matrix": torch.zeros(16, 15)}),
            r"\(16, 15\), expected F32 \(16, 16\)",
        ),
        (lambda state: state.update({"whitening.0.mean": torch.zeros(16).half()}), "whitening.0.mean is F16"),
        (lambda state: [state.pop(name) for name in list(state) if name.startswith("whitening.")], "is missing"),
    ],
)
def test_whitening(refused, tmp_path, change, message):
    store = Store.from_arrays(random_walks(4), layout="kinect20", labels=[0, 1, 0, 1])
    store.save(tmp_path / "store.safetensors")
    run = make_run(
        tmp_path / "run", store, tmp_path / "store.safetensors", stages=("ser",), feature="both", whitening=0.5
    )
    path = run.stage_file("ser")
    run.load_encoder("ser")
    state = load_file(path)
    change(state)
    save_file(state, path)
    with pytest.raises(ConfigError, match=rf"ser\.safetensors: not a usable checkpoint .*{message}") as error:
        run.load_encoder("ser")
    assert "\n" not in str(error.value)
    assert "not a usable checkpoint" in refused("run", run.path)


# ---- Run folders ----


def configured(**values):
    def write(folder: Path) -> None:
        file = folder / "config.json"
        config = json.loads(file.read_text())
        for name, value in values.items():
            group, _, field = name.rpartition("__")
            (config[group] if group else config)[field] = value
        file.write_text(json.dumps(config))

    return write


@pytest.mark.parametrize(
    "write",
    [
        configured(recipe__hidden_size=10**12),
        configured(recipe__layers=10**9),
        configured(recipe__hidden_size=1 << 16, recipe__layers=64),
        configured(recipe__lr=10**400),
        configured(recipe__whitening="much"),
        configured(recipe__feature="most"),
        configured(recipe__whitening=0.5),  # its file holds none
        configured(recipe__whitening=0.5, recipe__feature="both", recipe__hidden_size=1 << 20),
        configured(recipe="paper"),
        configured(frames__bodies=10**12),
        configured(frames__bodies=0),
        configured(frames__layout={"name": "x", "joints": ["a"] * 10_000}),
        configured(
            frames__layout={key: [] for key in ("name", "joints", "bones", "mirror", "center", "spine_top", "hips")}
        ),
        configured(frames__preprocessing=[{"step": ["x"]}]),
        configured(frames__preprocessing=[{"step": "downsample", "max_frames": "x"}]),
        configured(frames__preprocessing=[{"step": "resample", "frames": 10**12}]),
        configured(seed="x"),
        configured(stages=[1]),
        configured(stages=3),
        configured(data=["x"]),
        configured(unknown=1),
        lambda folder: (folder / "config.json").write_text("[" * 200_000),
        lambda folder: (folder / "config.json").write_text(" " * (limit("record") + 1)),
        lambda folder: (folder / "config.json").write_text("9" * 5000),
    ],
)
def test_configs(refused, run_folder, write):
    write(run_folder)
    refused("run", run_folder)


GOOD = {"evaluation": "knn", "encoder": "ser", "accuracy": 50.0}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("eval/x.json", "[" * 200_000),
        ("eval/x.json", json.dumps({**GOOD, "train_clips": float("inf"), "test_clips": 1})),
        ("eval/x.json", json.dumps({**GOOD, "confusion": [[1 << 62]]})),
        ("eval/x.json", json.dumps({**GOOD, "confusion": [[0]] * 5000})),
        ("eval/x.json", json.dumps({**GOOD, "accuracy": 10**400})),
        ("eval/x.json", json.dumps({**GOOD, "accuracy": [[[]]]})),
        ("eval/x.json", " " * (limit("record") + 1)),
        ("metrics.jsonl", "[" * 200_000 + "\n"),
        ("metrics.jsonl", json.dumps({"stage": "ser", "epoch": 1, "loss": 10**400}) + "\n"),
        ("metrics.jsonl", json.dumps({"stage": "ser", "epoch": 10**100, "loss": 1}) + "\n"),
        (
            "metrics.jsonl",
            json.dumps({"stage": "ser", "epoch": 1, "loss": 1, **dict.fromkeys(map(str, range(1000)), 1)}),
        ),
        ("metrics.jsonl", " " * (limit("record") + 1)),
    ],
    ids=lambda value: value[:60],
)
def test_records(refused, run_folder, file, text):
    path = run_folder / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert str(path) in refused("records", run_folder)


def test_a_folder_full_of_records(refused, run_folder):
    (run_folder / "eval").mkdir()
    for i in range(1100):
        (run_folder / "eval" / f"{i}.json").write_text(json.dumps(GOOD))
    assert "more than 1000 records" in refused("records", run_folder)


# ---- What is said of them ----


def test_limits_can_be_raised_and_are_checked(monkeypatch, tmp_path):
    path = tmp_path / "x.toml"
    path.write_text("#" * (1 << 20))
    from crrl_fast.config import load_toml

    with pytest.raises(DataError, match=r"x\.toml: has 1048576 bytes, .* CRRL_LIMITS=toml="):
        load_toml(path)
    monkeypatch.setenv("CRRL_LIMITS", "toml=2M, ratio=500")
    assert load_toml(path) == {}
    assert (limit("toml"), limit("ratio"), limit("clip")) == (2 << 20, 500, 64 << 20)
    for text in ("toml", "toml=x", "spoon=3", "toml=-1"):
        monkeypatch.setenv("CRRL_LIMITS", text)
        with pytest.raises(ConfigError, match="CRRL_LIMITS"):
            limit("toml")


def test_messages_do_not_speak_to_the_terminal(crrl, tmp_path):
    path = tmp_path / "x.toml"
    path.write_text('"\\u001b[2J" = 1')
    code, _, err = crrl("pretrain", "--data", "demo", "--config", path)
    assert code == 2
    assert err.isprintable() or err[:-1].isprintable()
    assert "\x1b" not in err
