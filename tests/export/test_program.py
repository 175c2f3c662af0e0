import json
import subprocess
import sys

import pytest
import torch

from crrl_fast.export import export_encoder
from crrl_fast.export.program import trace
from tests.export.conftest import FEATURES, SIZES, expected_feature, make_run, ragged

# Loads an archive in a process in which crrl_fast cannot be imported, and leaves the features beside the inputs.
ELSEWHERE = """
import sys
sys.modules["crrl_fast"] = None
import torch
archive, inputs, features = sys.argv[1:]
module = torch.export.load(archive).module()
with torch.no_grad():
    torch.save([module(*batch) for batch in torch.load(inputs)], features)
assert not any(name.startswith("crrl_fast.") for name in sys.modules)
"""


def program_of(run, encoder="inf"):
    (file,) = export_encoder(run, encoder=encoder, formats=["pt2"])
    return torch.export.load(file.path)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_it_computes_the_feature_of_other_sizes_than_it_was_traced_with(tmp_path, layers):
    run = make_run(tmp_path / "run", layers=layers)
    module, encoder = program_of(run).module(), run.load_encoder("inf").eval()
    for size in SIZES:
        x, lengths = ragged(*size)
        feature = module(x, lengths)
        torch.testing.assert_close(feature, expected_feature(encoder, x, lengths))
        torch.testing.assert_close(feature, encoder(x, lengths).feature)


def test_a_concatenation_is_one_program(run):
    module, encoder = program_of(run, "concat").module(), run.load_encoder("concat")
    x, lengths = ragged(6, 33)
    feature = module(x, lengths)
    assert feature.shape == (6, 32)
    torch.testing.assert_close(feature, expected_feature(encoder, x, lengths))


@pytest.mark.parametrize("encoder", ["inf", "concat"])
@pytest.mark.parametrize("fields", FEATURES)
def test_velocity_and_whitening_are_part_of_the_program(tmp_path, fields, encoder):
    run = make_run(tmp_path / "run", **fields)
    module, loaded = program_of(run, encoder).module(), run.load_encoder(encoder).eval()
    for size in SIZES:
        x, lengths = ragged(*size)
        feature = module(x, lengths)
        assert feature.shape == (size[0], loaded.feature_size)
        torch.testing.assert_close(feature, expected_feature(loaded, x, lengths), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(feature, loaded(x, lengths).feature, rtol=1e-4, atol=1e-5)
    x = torch.randn(3, 5, 60)
    torch.testing.assert_close(module(x, torch.tensor([-2, 9, 5])), module(x, torch.tensor([0, 5, 5])))


def test_lengths_are_clamped(run):
    module = program_of(run).module()
    x = torch.randn(3, 5, 60)
    torch.testing.assert_close(module(x, torch.tensor([-2, 9, 5])), module(x, torch.tensor([0, 5, 5])))


@pytest.mark.parametrize("fields", [{}, FEATURES[2]])
def test_it_loads_in_a_process_without_crrl_fast(tmp_path, fields):
    run = make_run(tmp_path / "run", **fields)
    (file,) = export_encoder(run, formats=["pt2"])
    batches = [ragged(*size) for size in SIZES]
    torch.save(batches, tmp_path / "inputs.pt")
    command = [sys.executable, "-c", ELSEWHERE, file.path, tmp_path / "inputs.pt", tmp_path / "features.pt"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    encoder = run.load_encoder("inf")
    for batch, feature in zip(batches, torch.load(tmp_path / "features.pt"), strict=True):
        torch.testing.assert_close(feature, expected_feature(encoder, *batch), rtol=1e-4, atol=1e-5)


def test_the_archive_says_how_the_feature_is_computed(tmp_path):
    run = make_run(tmp_path / "run", **FEATURES[2])
    (file,) = export_encoder(run, formats=["pt2"])
    extra = {"metadata.json": ""}
    program = torch.export.load(file.path, extra_files=extra)
    metadata = json.loads(extra["metadata.json"])
    assert [metadata[key] for key in ("format_version", "streams", "velocity_scale", "whitening", "feature_size")] == [
        *(2, 2, 10.0, True, 32)
    ]
    assert "velocity x[t + 1] - x[t], 0 at a clip's last valid frame, times 10;" in metadata["feature"]
    for stream, whitening in enumerate(run.load_encoder("inf").whitening):
        assert torch.equal(program.state_dict[f"whitening.{stream}.matrix"], whitening.matrix)


def test_the_archive_holds_nn_gru_s_names_its_metadata_and_no_paths(run):
    (file,) = export_encoder(run, formats=["pt2"])
    extra = {"metadata.json": ""}
    program = torch.export.load(file.path, extra_files=extra)
    metadata = json.loads(extra["metadata.json"])
    assert (metadata["encoder"], metadata["feature_size"], metadata["layout"]) == ("inf", 16, "kinect20")
    assert set(program.state_dict) == set(run.load_encoder("inf").gru.state_dict())
    operators = {
        node.target.namespace for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)
    }
    assert operators == {"aten"}
    assert str(sys.modules["crrl_fast"].__path__[0]).encode() not in file.path.read_bytes()


@pytest.mark.parametrize("fields", [{}, FEATURES[2]])
def test_it_moves_to_the_device(tmp_path, device, fields):
    from torch.export.passes import move_to_device_pass

    run = make_run(tmp_path / "run", **fields)
    encoder = run.load_encoder("concat")
    module = move_to_device_pass(trace(encoder, 60), device).module()
    x, lengths = ragged(6, 33)
    with torch.backends.cudnn.flags(allow_tf32=False), torch.no_grad():
        feature = module(x.to(device), lengths.to(device))
    assert feature.device.type == device.type
    torch.testing.assert_close(feature.cpu(), expected_feature(encoder, x, lengths), rtol=1e-4, atol=1e-5)
