import sys

import pytest
import torch

from crrl_fast.errors import ConfigError, CrrlError
from crrl_fast.export import FORMATS, export_encoder, exporter
from tests.export.conftest import make_run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_safetensors_and_pt2_by_default_next_to_the_run_and_checked(run):
    files = export_encoder(str(run.path))
    assert [(file.path, file.format) for file in files] == [
        (run.path / "export/inf.safetensors", "safetensors"),
        (run.path / "export/inf.pt2", "pt2"),
    ]
    assert all(0 <= file.difference < 1e-5 for file in files)
    assert names(run.path / "export") == ["inf.pt2", "inf.safetensors"]


def test_the_encoder_of_a_run_is_its_last_fusion_or_the_named_one(tmp_path):
    run = make_run(tmp_path / "run", stages=("ser", "cml"))
    assert export_encoder(run, formats=["pt2"])[0].path.name == "cml.pt2"
    assert export_encoder(run, tmp_path / "out", encoder="ser", formats=["pt2", "pt2"])[0].path.name == "ser.pt2"
    assert names(tmp_path / "out") == ["ser.pt2"]


def test_a_file_that_computes_something_else_is_not_left_behind(run, monkeypatch):
    def write_other_weights(path, encoder, metadata):
        with torch.no_grad():
            encoder.encoder.gru.weight_hh_l1[:8] += 0.1
        original(path, encoder, metadata)
        with torch.no_grad():
            encoder.encoder.gru.weight_hh_l1[:8] -= 0.1

    (good,) = export_encoder(run, formats=["safetensors"])
    before = good.path.read_bytes()
    original = exporter.write_weights
    monkeypatch.setattr(exporter, "write_weights", write_other_weights)
    with pytest.raises(CrrlError, match=r"inf\.safetensors: not written, because its features differ"):
        export_encoder(run, formats=["safetensors"])
    assert good.path.read_bytes() == before
    with pytest.raises(CrrlError, match="not written"):
        export_encoder(run, encoder="cml", formats=["safetensors"])
    assert names(run.path / "export") == ["inf.safetensors"]


def test_without_onnxruntime_a_model_is_written_and_said_to_be_unchecked(run, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (file,) = export_encoder(run, formats=["onnx"])
    assert file.difference is None
    assert file.path.stat().st_size > 1000


def test_without_onnx_nothing_is_written(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "crrl_fast.export.onnx_graph", raising=False)
    with pytest.raises(CrrlError, match=r"pip install 'crrl-fast\[onnx\]'"):
        export_encoder(run, formats=FORMATS)
    assert not (run.path / "export").exists()


def test_checkpoints_are_not_overwritten(run, tmp_path):
    other = make_run(tmp_path / "other", stages=("ser",))
    before = (run.path / "inf.safetensors").read_bytes(), (other.path / "ser.safetensors").read_bytes()
    for folder in (run.path, other.path):
        with pytest.raises(ConfigError, match="a run folder, whose checkpoints have such names"):
            export_encoder(run, folder)
    assert before == ((run.path / "inf.safetensors").read_bytes(), (other.path / "ser.safetensors").read_bytes())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"formats": ["safetensors", "torchscript"]},
            "unknown format 'torchscript': choose from safetensors, pt2, onnx",
        ),
        ({"formats": []}, "no format to export to"),
        ({"encoder": "joint"}, "no checkpoint"),
        ({"out": "/dev/null/x"}, "cannot be written"),
    ],
)
def test_mistakes_are_named_and_leave_nothing(run, options, message):
    with pytest.raises(CrrlError, match=message):
        export_encoder(run, **options)
    assert not (run.path / "export").exists()


def test_a_run_without_a_checkpoint(tmp_path):
    run = make_run(tmp_path / "run", stages=())
    with pytest.raises(ConfigError, match="no stage has finished"):
        export_encoder(run)
    for encoder, lacking in (("inf", "inf"), ("concat", "ser")):
        with pytest.raises(ConfigError, match=f"stage '{lacking}' has no checkpoint"):
            export_encoder(run, encoder=encoder)
