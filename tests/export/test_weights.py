import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from crrl_fast.export import export_encoder
from tests.export.conftest import expected_feature, make_run, ragged


@pytest.mark.parametrize("layers", [1, 3])
def test_a_plain_gru_loads_the_file(tmp_path, layers):
    run = make_run(tmp_path / "run", layers=layers)
    (file,) = export_encoder(run, formats=["safetensors"])
    gru = nn.GRU(60, 8, layers, bidirectional=True, batch_first=True)
    state = load_file(file.path)
    assert sorted(state) == sorted(gru.state_dict())
    gru.load_state_dict(state)
    encoder = run.load_encoder("inf").eval()
    x, lengths = ragged(1, 9)
    torch.testing.assert_close(gru(x)[0].mean(dim=1), expected_feature(encoder, x, lengths))
    torch.testing.assert_close(gru(x)[0].mean(dim=1), encoder(x, lengths).feature)


def test_the_file_says_what_it_is(run):
    (file,) = export_encoder(run, encoder="cml", formats=["safetensors"])
    with safe_open(file.path, framework="pt") as opened:
        metadata = {key: json.loads(text) for key, text in opened.metadata().items()}
    assert (metadata["encoder"], metadata["parts"], metadata["dataset"]) == ("cml", ["cml"], "mine")
    assert [metadata[key] for key in ("input_size", "hidden_size", "layers", "feature_size")] == [60, 8, 2, 16]
    assert (metadata["layout"], metadata["bodies"], len(metadata["joints"])) == ("kinect20", 1, 20)
    steps = [{"step": "center"}, {"step": "downsample", "max_frames": 60}, {"step": "rotate"}, {"step": "motion"}]
    assert metadata["preprocessing"] == steps
    assert metadata["recipe"]["stream"] == "motion"
    assert metadata["versions"]["torch"] == torch.__version__
    assert "mean over the valid frames" in metadata["feature"]


def test_a_concatenation_is_a_file_for_each_part(run, tmp_path):
    files = export_encoder(run, tmp_path / "out", encoder="concat", formats=["safetensors"])
    assert [file.path.name for file in files] == ["ser.safetensors", "cml.safetensors"]
    for file in files:
        stored = load_file(file.path)
        for name, weight in run.load_encoder(file.path.stem).gru.state_dict().items():
            assert torch.equal(stored[name], weight)
