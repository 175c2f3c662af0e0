"""`crrl-fast export` as a user meets it."""

import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.conftest import one_line_error
from tests.export.conftest import make_run

SMALL = [f"--set={field}" for field in ("epochs=1", "hidden_size=4", "queue_size=3", "batch_size=8")]


def test_from_pretraining_to_a_plain_gru(crrl, tmp_path, tiny_path):
    assert crrl("pretrain", "--data", tiny_path, "--out", "run", "--stages", "ser", *SMALL)[0] == 0
    code, out, _ = crrl("export", "run")
    assert code == 0
    first, second = out.splitlines()
    assert first.startswith("run/export/ser.safetensors: 0.0 MB, on random ragged clips within ")
    assert second.startswith("run/export/ser.pt2: ")
    gru = nn.GRU(60, 4, 2, bidirectional=True, batch_first=True)
    gru.load_state_dict(load_file(tmp_path / "run/export/ser.safetensors"))
    clip = torch.randn(1, 7, 60)
    feature = torch.export.load(tmp_path / "run/export/ser.pt2").module()(clip, torch.tensor([7]))
    torch.testing.assert_close(feature, gru(clip)[0].mean(dim=1))


def test_formats_encoder_and_folder_are_chosen(crrl, tmp_path):
    pytest.importorskip("onnx")
    make_run(tmp_path / "run")
    code, out, _ = crrl("export", "run", "--encoder", "concat", "--format", "onnx, safetensors", "--out", "new/files")
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()] == [
        "new/files/concat.onnx",
        "new/files/ser.safetensors",
        "new/files/cml.safetensors",
    ]
    assert not (tmp_path / "run/export").exists()


def test_a_model_that_cannot_be_run_here_is_said_to_be_unchecked(crrl, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    make_run(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, out, _ = crrl("export", "run", "--format", "onnx")
    assert code == 0
    assert "not checked, for onnxruntime is not installed" in out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["absent"], ["absent: not a run folder"]),
        (["empty"], ["empty: no stage has finished", "no checkpoint"]),
        (["run", "--encoder", "cml"], ["stage 'cml' has no checkpoint", "finished stages: ser"]),
        (["run", "--encoder", "concat"], ["stage 'cml' has no checkpoint"]),
        (["run", "--format", "pt"], ["unknown format 'pt'", "safetensors, pt2, onnx"]),
        (["run", "--format", ","], ["no format"]),
        (["run", "--out", "run"], ["run: a run folder", "--out"]),
        (["run", "--out", "file"], ["file/ser.safetensors: cannot be written"]),
    ],
)
def test_mistakes_end_in_one_line(crrl, tmp_path, arguments, parts):
    make_run(tmp_path / "run", stages=("ser",))
    make_run(tmp_path / "empty", stages=())
    (tmp_path / "file").touch()
    one_line_error(crrl("export", *arguments), *parts)
    assert not (tmp_path / "run/export").exists()


def test_the_missing_extra_is_named(crrl, tmp_path, monkeypatch):
    make_run(tmp_path / "run", stages=("ser",))
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "crrl_fast.export.onnx_graph", raising=False)
    one_line_error(crrl("export", "run", "--format", "safetensors,onnx"), "pip install 'crrl-fast[onnx]'")
    assert not (tmp_path / "run/export").exists()


def test_a_damaged_checkpoint(crrl, tmp_path):
    make_run(tmp_path / "run", stages=("ser",))
    checkpoint = tmp_path / "run/ser.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-9])
    one_line_error(crrl("export", "run"), "ser.safetensors: not a usable checkpoint")
