import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from crrl_fast.data.frame_format import FrameFormat
from crrl_fast.data.layouts import get_layout
from crrl_fast.errors import CrrlError
from crrl_fast.export import export_encoder, exporter
from crrl_fast.export.weights import read_weights
from tests.export.conftest import FEATURES, expected_feature, make_run, ragged


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


@pytest.mark.parametrize("fields", FEATURES)
def test_the_whitening_lies_beside_the_gru(tmp_path, fields):
    run = make_run(tmp_path / "run", **fields)
    (file,) = export_encoder(run, formats=["safetensors"])
    state, encoder = load_file(file.path), run.load_encoder("inf").eval()
    whitening = {name: tensor for name, tensor in state.items() if name.startswith("whitening.")}
    gru = nn.GRU(60, 8, 2, bidirectional=True, batch_first=True)
    gru.load_state_dict({name: tensor for name, tensor in state.items() if name not in whitening})
    assert whitening.keys() == encoder.whitening.state_dict(prefix="whitening.").keys()

    # As a reader of README does it: one clip, its velocity, and then the whitening of each.
    clip, _ = ragged(1, 9)
    streams = [clip]
    if "feature" in fields:
        streams.append(10 * torch.cat([clip.diff(dim=1), torch.zeros(1, 1, 60)], dim=1))
    if fields.get("feature") == "all":
        streams.append(clip - clip[:, :, FrameFormat(get_layout("kinect20"), 1, ()).parents()])
    features = [gru(frames)[0].mean(dim=1) for frames in streams]
    if "whitening" in fields:
        features = [(f - state[f"whitening.{i}.mean"]) @ state[f"whitening.{i}.matrix"] for i, f in enumerate(features)]
    want = encoder(clip, torch.tensor([9])).feature
    torch.testing.assert_close(torch.cat(features, dim=1), want, rtol=1e-4, atol=1e-5)

    x, _ = ragged(6, 33)
    lengths = torch.tensor([33, 1, 2, 20, 32, 7])
    x = torch.where((torch.arange(33) < lengths[:, None])[:, :, None], x.nan_to_num(1, 1, 1), torch.nan)
    with torch.no_grad():
        read = read_weights(file.path)(x, lengths)
    torch.testing.assert_close(read, expected_feature(encoder, x, lengths), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "version", "words"),
    [
        ({}, 1, ["mean over the valid frames"]),
        (FEATURES[0], 2, ["velocity", "times 10"]),
        (FEATURES[1], 2, ["minus whitening.i.mean, times whitening.i.matrix"]),
        (FEATURES[2], 2, ["C / 2", "velocity", "each stream by its own i from 0 to 1", "whitening.i.matrix"]),
        (FEATURES[3], 2, ["C / 3", "velocity", "bones", "each stream by its own i from 0 to 2"]),
    ],
)
def test_a_file_that_old_readers_would_misread_has_another_version(tmp_path, fields, version, words):
    run = make_run(tmp_path / "run", **fields)
    (file,) = export_encoder(run, formats=["safetensors"])
    with safe_open(file.path, framework="pt") as opened:
        metadata = {key: json.loads(text) for key, text in opened.metadata().items()}
    assert metadata["format_version"] == version
    assert metadata["streams"] == {"both": 2, "all": 3}.get(fields.get("feature"), 1)
    assert (metadata["parents"] is not None) == (fields.get("feature") == "all")
    assert metadata["velocity_scale"] == fields.get("velocity_scale")
    assert metadata["whitening"] == ("whitening" in fields)
    assert metadata["feature_size"] == 16 * metadata["streams"]
    assert all(part in metadata["feature"] for part in words)


@pytest.mark.parametrize("wrong", [{"velocity_scale": 9.0}, {"velocity_scale": 0.0}, {"whitening": False}])
def test_a_file_that_gives_another_feature_is_refused(tmp_path, monkeypatch, wrong):
    run = make_run(tmp_path / "run", **FEATURES[2])
    write = exporter.write_weights
    monkeypatch.setattr(exporter, "write_weights", lambda path, part, says: write(path, part, {**says, **wrong}))
    with pytest.raises(CrrlError, match="not written, because its features differ"):
        export_encoder(run, formats=["safetensors"])


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


@pytest.mark.parametrize("fields", [{}, FEATURES[2]])
def test_a_concatenation_is_a_file_for_each_part(tmp_path, fields):
    run = make_run(tmp_path / "run", **fields)
    files = export_encoder(run, tmp_path / "out", encoder="concat", formats=["safetensors"])
    assert [file.path.name for file in files] == ["ser.safetensors", "cml.safetensors"]
    for file in files:
        stored = load_file(file.path)
        for name, weight in run.load_encoder(file.path.stem).state_dict().items():
            assert torch.equal(stored[name.removeprefix("encoder.").removeprefix("gru.")], weight)
