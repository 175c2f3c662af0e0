"""`crrl_fast.load(run).encode(arrays)`, against nn.GRU and against what evaluation extracts."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import crrl_fast
from crrl_fast.data.batches import ResidentClips
from crrl_fast.data.preprocess import DEFAULT_STEPS, Center, Downsample, Motion, Rotate, Scale, Turn, apply_steps
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError, DataError
from crrl_fast.evaluation.features import extract_features
from tests.conftest import random_walks
from tests.embedding.runs import make_run

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def two_body_clips(count=6):
    """Return clips (T, 2, 20, 3); of every second one the second body is absent."""
    clips = [np.stack([clip, 0.5 * clip + 1], axis=1) for clip in random_walks(count)]
    for clip in clips[::2]:
        clip[:, 1] = 0
    return clips


def stock_feature(encoder, clip):
    """Return the feature of one preprocessed clip (T, M, V, 3) by nn.GRU."""
    gru = nn.GRU(clip[0].size, encoder.gru.hidden_size, 2, batch_first=True, bidirectional=True)
    gru.load_state_dict(encoder.gru.state_dict())
    with torch.no_grad():
        return gru.eval()(torch.from_numpy(clip).flatten(1)[None])[0][0].mean(dim=0).numpy()


def features_of_evaluation(run, store, name):
    """Return the features of all clips of the run's store as the protocols extract them."""
    seen = store.processed(run.config.recipe.preprocessing())
    clips = ResidentClips(seen, torch.arange(len(seen)), seen.frames)
    return extract_features(run.load_encoder(name), clips).numpy()


STREAM_CASES = [
    ((), {}),
    (DEFAULT_STEPS, {}),
    ((Scale(), Center(), Downsample(7)), {"max_frames": 5}),
    ((Center(), Rotate()), {"stream": "bone", "max_frames": 6}),
    (DEFAULT_STEPS, {"stream": "motion"}),
    (DEFAULT_STEPS, {"align": "turn"}),
    ((Turn(), *DEFAULT_STEPS), {"align": "none"}),
]


@pytest.mark.parametrize(("steps", "recipe"), STREAM_CASES)
def test_raw_clips_get_the_features_that_evaluation_extracts_of_the_runs_store(tmp_path, steps, recipe):
    arrays = random_walks(12)
    store = Store.from_arrays(arrays, layout="kinect20", steps=steps)
    run = make_run(tmp_path / "run", store, **recipe)
    features = crrl_fast.load(run.path, device="cpu").encode(arrays)
    assert (features.shape, features.dtype) == ((12, 16), np.float32)
    np.testing.assert_allclose(features, features_of_evaluation(run, store, "cml"), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("steps", "recipe"), STREAM_CASES)
def test_features_are_those_of_stock_gru_on_each_preprocessed_clip_alone(tmp_path, steps, recipe):
    arrays = two_body_clips()
    store = Store.from_arrays(arrays, layout="kinect20", steps=steps)
    embedder = crrl_fast.load(make_run(tmp_path / "run", store, **recipe).path, encoder="ser", device="cpu")
    features = embedder.encode(arrays)
    for feature, array in zip(features, arrays, strict=True):
        all_steps = (*steps, *embedder.steps[len(steps) :])
        seen, _ = apply_steps(array, np.array([0, len(array)]), store.layout, all_steps)
        np.testing.assert_allclose(feature, stock_feature(embedder.encoder, seen), **CLOSE)


def test_any_device_gives_the_features_of_the_cpu(tmp_path, tiny_store, device):
    path = make_run(tmp_path / "run", tiny_store).path
    embedder = crrl_fast.load(path, device=device.type)
    assert embedder.device.type == next(embedder.encoder.parameters()).device.type == device.type
    on_device = [torch.from_numpy(clip).to(device) for clip in random_walks(9)]
    expected = crrl_fast.load(path, device="cpu").encode(random_walks(9))
    np.testing.assert_allclose(embedder.encode(on_device), expected, **CLOSE)


def test_clips_may_be_arrays_tensors_or_lists_of_any_real_type(tmp_path, tiny_store):
    embedder = crrl_fast.load(make_run(tmp_path / "run", tiny_store).path, device="cpu")
    arrays = random_walks(5)
    expected = embedder.encode(arrays)
    tensor = torch.from_numpy(arrays[2]).double().requires_grad_()
    mixed = [arrays[0].tolist(), arrays[1][:, None], tensor, np.asfortranarray(arrays[3]), arrays[4].astype(">f8")]
    np.testing.assert_array_equal(embedder.encode(mixed), expected)
    np.testing.assert_array_equal(embedder.encode(clip for clip in mixed), expected)
    np.testing.assert_array_equal(embedder.encode(tuple(arrays)), expected)
    ragged = np.empty(5, dtype=object)
    ragged[:] = arrays
    np.testing.assert_array_equal(embedder.encode(ragged), expected)
    low = embedder.encode([torch.from_numpy(clip).bfloat16() for clip in arrays])
    np.testing.assert_allclose(low, expected, atol=0.05)
    whole = [np.arange(120).reshape(2, 20, 3), torch.arange(60, dtype=torch.uint8).view(1, 20, 3)]
    assert np.isfinite(embedder.encode(whole)).all()


def test_neither_order_nor_batch_mates_matter(tmp_path, tiny_store):
    embedder = crrl_fast.load(make_run(tmp_path / "run", tiny_store).path, device="cpu")
    arrays = random_walks(20)
    together = embedder.encode(arrays)
    alone = np.concatenate([embedder.encode([array]) for array in arrays])
    np.testing.assert_allclose(together, alone, **CLOSE)
    np.testing.assert_allclose(embedder.encode(arrays[::-1])[::-1], together, **CLOSE)
    np.testing.assert_allclose(embedder.encode(arrays, batch_size=3), together, **CLOSE)
    assert np.abs(together[0] - together[1:]).max(axis=1).min() > 1e-3  # or else any order would do


def test_missing_bodies_are_absent_ones(tmp_path):
    arrays = two_body_clips()
    store = Store.from_arrays(arrays, layout="kinect20", steps=DEFAULT_STEPS)
    embedder = crrl_fast.load(make_run(tmp_path / "run", store).path, device="cpu")
    fewer = [array[:, 0] if i % 2 == 0 else array for i, array in enumerate(arrays)]
    np.testing.assert_array_equal(embedder.encode(fewer), embedder.encode(arrays))


def test_concatenated_encoders(tmp_path, tiny_store):
    path = make_run(tmp_path / "run", tiny_store).path
    arrays = random_walks(7)
    both = crrl_fast.load(path, encoder="concat", device="cpu")
    parts = [crrl_fast.load(path, encoder=name, device="cpu").encode(arrays) for name in ("ser", "cml")]
    assert both.feature_size == 32
    np.testing.assert_array_equal(both.encode(arrays), np.concatenate(parts, axis=1))


def test_no_clip_has_no_feature_but_a_size(tmp_path, tiny_store):
    embedder = crrl_fast.load(make_run(tmp_path / "run", tiny_store).path, device="cpu")
    empty = embedder.encode([])
    assert (empty.shape, empty.dtype) == ((0, 16), np.float32)


def test_loading_and_encoding_leave_the_callers_random_numbers_and_arrays_alone(tmp_path, tiny_store):
    path = make_run(tmp_path / "run", tiny_store).path
    arrays = random_walks(4)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    crrl_fast.load(path, encoder="random", device="cpu").encode(arrays)
    assert torch.equal(torch.rand(3), expected)
    for array, before in zip(arrays, random_walks(4), strict=True):
        np.testing.assert_array_equal(array, before)


NAN = np.zeros((4, 20, 3))
NAN[2, 7, 1] = np.nan


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (np.zeros((4, 25, 3)), r"arrays\[1\] has 25 joints \(shape \(4, 25, 3\)\).* 20, .*'kinect20': bring it into"),
        (np.zeros((0, 20, 3)), r"arrays\[1\] has no frame \(shape \(0, 20, 3\)\): leave it out"),
        (np.zeros((4, 20, 2)), r"arrays\[1\] has shape \(4, 20, 2\), expected \(frames, 20, 3\).*z = 0"),
        (np.zeros((4, 20, 4)), r"arrays\[1\] has shape \(4, 20, 4\), expected"),
        (np.zeros((4, 60)), r"arrays\[1\] has shape \(4, 60\), expected .*pass a list of such clips"),
        (np.zeros((1, 4, 1, 20, 3)), r"arrays\[1\] has shape \(1, 4, 1, 20, 3\), expected"),
        (np.zeros((4, 2, 20, 3)), r"arrays\[1\] has 2 bodies .* trained on 1: keep at most 1, .*clip\[:, :1\]"),
        (np.zeros((4, 0, 20, 3)), r"arrays\[1\] has 0 bodies .*leave it out"),
        (NAN, r"'arrays\[1\]' .*not finite at frame 2, body 0, joint 'hand_left' \(nan\): repair or leave out"),
        (np.full((1, 20, 3), 1e300), r"'arrays\[1\]' .*not finite at frame 0.*\(inf\)"),
        (np.zeros((4, 20, 3), complex), r"arrays\[1\] holds complex128 and not real numbers"),
        (np.zeros((4, 20, 3), bool), r"arrays\[1\] holds bool"),
        ([[["x"] * 3] * 20], r"arrays\[1\] holds <U1"),
        (None, r"arrays\[1\] holds object"),
        ([[[0.0] * 3] * 20, [[0.0] * 3] * 19], r"arrays\[1\] is no array: .*lists of different lengths"),
    ],
)
def test_a_bad_clip_is_named_by_its_index(tmp_path, tiny_store, clip, message):
    embedder = crrl_fast.load(make_run(tmp_path / "run", tiny_store).path, device="cpu")
    with pytest.raises(DataError, match=message):
        embedder.encode([random_walks(2)[0], clip])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (random_walks(2)[1], r"got one array of shape \(12, 20, 3\): pass \[clip\] for one clip, list\(batch\)"),
        (torch.zeros(2, 4, 20, 3), r"got one array of shape \(2, 4, 20, 3\)"),
        ({"clip": random_walks(2)[0]}, "got dict"),
        ("clips.npz", "got str"),
        (3, "got int"),
    ],
)
def test_what_is_no_list_of_clips_is_refused(tmp_path, tiny_store, arrays, message):
    embedder = crrl_fast.load(make_run(tmp_path / "run", tiny_store).path, device="cpu")
    with pytest.raises(DataError, match=message):
        embedder.encode(arrays)


def test_load_refuses_what_is_not_there(tmp_path, tiny_store):
    with pytest.raises(ConfigError, match="absent: not a run folder"):
        crrl_fast.load(tmp_path / "absent")
    path = make_run(tmp_path / "run", tiny_store, stages=("ser",)).path
    for encoder in ("cml", "concat"):
        with pytest.raises(ConfigError, match="stage 'cml' has no checkpoint here; finished stages: ser"):
            crrl_fast.load(str(path), encoder=encoder)
    with pytest.raises(ConfigError, match="unknown device 'tpu'"):
        crrl_fast.load(path, device="tpu")
    with pytest.raises(ConfigError, match="batch_size must be at least 1, got 0"):
        crrl_fast.load(path, device="cpu").encode(random_walks(2)[:1], batch_size=0)
    empty = make_run(tmp_path / "empty", tiny_store, stages=()).path
    with pytest.raises(ConfigError, match="no stage has finished"):
        crrl_fast.load(empty)


def test_a_store_gives_names_labels_and_lengths_in_the_order_of_the_index(tmp_path, tiny_store):
    embedder = crrl_fast.load(make_run(tmp_path / "run", tiny_store, max_frames=5).path, device="cpu")
    found = embedder.encode_store(tiny_store, torch.tensor([7, 1, 0]))
    assert found.names == ("clip 7", "clip 1", "clip 0")
    assert found.labels.tolist() == [1, 1, 0]
    assert found.classes == ["class 1", "class 1", "class 0"]
    assert found.lengths.tolist() == [min(len(random_walks(24)[i]), 5) for i in (7, 1, 0)]
    np.testing.assert_allclose(found.features, embedder.encode([random_walks(24)[i] for i in (7, 1, 0)]), **CLOSE)
    nothing = embedder.encode_store(tiny_store, torch.arange(0))
    assert (len(nothing), nothing.features.shape) == (0, (0, 16))


def test_motion_is_taken_after_down_sampling(tmp_path):
    arrays = random_walks(3)
    store = Store.from_arrays(arrays, layout="kinect20")
    embedder = crrl_fast.load(make_run(tmp_path / "run", store, stream="motion", max_frames=4).path, device="cpu")
    assert embedder.steps == (Downsample(4), Rotate(), Motion())


def test_importing_the_package_loads_neither_models_nor_ops():
    code = "import sys, crrl_fast; print([m for m in sys.modules if m.startswith('crrl_fast.')])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "crrl_fast.data.store" in printed
    for heavy in ("embedding", "models", "ops", "_ext", "run", "evaluation"):
        assert f"'crrl_fast.{heavy}" not in printed
