import json

import pytest
import torch

from crrl_fast.export import export_encoder
from tests.export.conftest import FEATURES, SIZES, expected_feature, make_run, ragged

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def session_of(run, encoder="inf"):
    (file,) = export_encoder(run, encoder=encoder, formats=["onnx"])
    return onnxruntime.InferenceSession(file.path, providers=["CPUExecutionProvider"])


def run_session(session, x, lengths):
    (feature,) = session.run(["feature"], {"frames": x.numpy(), "lengths": lengths.numpy()})
    return torch.from_numpy(feature)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_onnxruntime_computes_the_feature_of_ragged_batches(tmp_path, layers):
    run = make_run(tmp_path / "run", layers=layers)
    session, encoder = session_of(run), run.load_encoder("inf").eval()
    for size in SIZES:
        x, lengths = ragged(*size)
        feature = run_session(session, x, lengths)
        torch.testing.assert_close(feature, expected_feature(encoder, x, lengths))
        torch.testing.assert_close(feature, encoder(x, lengths).feature)


def test_a_concatenation_is_one_model(run):
    session, encoder = session_of(run, "concat"), run.load_encoder("concat")
    for size in SIZES:
        x, lengths = ragged(*size)
        torch.testing.assert_close(run_session(session, x, lengths), expected_feature(encoder, x, lengths))


@pytest.mark.parametrize("encoder", ["inf", "concat"])
@pytest.mark.parametrize("fields", FEATURES)
def test_velocity_and_whitening_are_part_of_the_model(tmp_path, fields, encoder):
    run = make_run(tmp_path / "run", **fields)
    session, loaded = session_of(run, encoder), run.load_encoder(encoder).eval()
    for size in SIZES:
        x, lengths = ragged(*size)
        feature = run_session(session, x, lengths)
        assert feature.shape == (size[0], loaded.feature_size)
        torch.testing.assert_close(feature, expected_feature(loaded, x, lengths), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(feature, loaded(x, lengths).feature, rtol=1e-4, atol=1e-5)
    x = torch.randn(3, 5, 60)
    feature = run_session(session, x, torch.tensor([-2, 9, 5]))
    torch.testing.assert_close(feature, run_session(session, x, torch.tensor([0, 5, 5])))


def test_the_weights_are_stored_once_for_both_streams(tmp_path):
    sizes = []
    for number, fields in enumerate(({}, FEATURES[0])):
        (file,) = export_encoder(make_run(tmp_path / f"run{number}", hidden=32, **fields), formats=["onnx"])
        sizes.append(file.path.stat().st_size)
    assert sizes[1] < 1.1 * sizes[0]


def test_lengths_are_clamped(run):
    session = session_of(run)
    x = torch.randn(3, 5, 60)
    feature = run_session(session, x, torch.tensor([-2, 9, 5]))
    torch.testing.assert_close(feature, run_session(session, x, torch.tensor([0, 5, 5])))
    assert not feature[0].any()


def test_the_model_is_valid_asks_for_little_and_says_what_it_is(run):
    (file,) = export_encoder(run, encoder="concat", formats=["onnx"])
    model = onnx.load(file.path)
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 13)]
    assert model.ir_version == 7
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"frames": ["clips", "frames", 60], "lengths": ["clips"], "feature": ["clips", 32]}
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert metadata["parts"] == ["ser", "cml"]
    assert metadata["preprocessing"][-1] == {"step": "motion"}
