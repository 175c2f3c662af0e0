import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from crrl_fast.data.info import Split
from crrl_fast.data.layouts import KINECT20, NTU25, map_joints
from crrl_fast.data.preprocess import DEFAULT_STEPS, Bone, Center, Downsample, Rotate, apply_steps, describe_steps
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError, DataError
from crrl_fast.evaluation import Transfer, TransferEvaluation, Tuning, evaluate
from tests.conftest import random_walks
from tests.evaluation.runs import make_run

QUICK = Transfer(Tuning(epochs=2, batch_size=4, encoder_lr=0.1))


def save(path, *, layout="ntu25", joints=25, bodies=1, steps=(), dataset="other", seed=3, classes=2):
    walks = random_walks(12, seed=seed, joints=bodies * joints)
    store = Store.from_arrays(
        [walk.reshape(len(walk), bodies, joints, 3) for walk in walks],
        labels=[i % classes for i in range(12)],
        subject=[i // 4 for i in range(12)],
        camera=[i % 3 for i in range(12)],
        layout=layout,
        dataset=dataset,
        splits={"xsub": Split("subject", (0, 1)), "xview": Split("camera", (0,))},
        steps=steps,
    )
    store.save(path)
    return store


@pytest.fixture
def run(tiny_path, tmp_path):
    return make_run(tmp_path / "run", tiny_path)


@pytest.fixture
def other(tmp_path):
    return str(tmp_path / "other.safetensors")


def test_a_store_of_the_same_joints_needs_nothing(run, other, tmp_path):
    store = save(other, layout="kinect20", joints=20)
    evaluation = TransferEvaluation.onto(run, None, other)
    assert torch.equal(evaluation.clips.store.frames, store.frames)
    returned = evaluate(evaluation, QUICK)
    record = json.loads((tmp_path / "run/eval/transfer-cml-other.json").read_text())
    assert (record["dataset"], record["split"], record["accuracy"]) == ("other", "xsub", returned["curve"][-1])
    assert (record["train_clips"], record["test_clips"]) == (8, 4)
    assert record["class_names"] == ["class 0", "class 1"]
    assert record["from"] == {"dataset": "tiny", "split": None}
    assert record["to"] == {
        "data": other,
        "dataset": "other",
        "split": "xsub",
        "bodies": 1,
        "bodies_taken": 1,
        "mapped_joints": None,
    }
    assert "last epoch, not the best" in record["protocol"]
    assert evaluate(TransferEvaluation.onto(run, "random", other, split="xview"), QUICK)["split"] == "xview"


def test_another_layout_is_refused_or_mapped(run, other):
    store = save(other)
    with pytest.raises(
        ConfigError,
        match=r"other.safetensors: joint layout ntu25 \(25 joints\), but the run was trained on kinect20 \(20 joints\)"
        ": --map-joints maps the 20 joints they share",
    ):
        TransferEvaluation.onto(run, None, other)
    evaluation = TransferEvaluation.onto(run, None, other, map_joints=True)
    poses = map_joints(NTU25, KINECT20)(store.frames.view(-1, 1, 25, 3).numpy())
    np.testing.assert_array_equal(evaluation.clips.store.frames.numpy(), poses.reshape(-1, 60))
    record = evaluate(evaluation, QUICK)
    assert record["to"]["mapped_joints"]["shared"]["hip_center"] == ["spine_base"]
    assert record["to"]["mapped_joints"]["filled"] == {}


def test_layouts_with_too_few_common_joints_are_refused_even_to_be_mapped(run, other):
    from crrl_fast.data.layouts import Layout

    rig = Layout("rig", ("pelvis", "chest", "left", "right"), ((1, 0), (2, 0), (3, 0)), ((2, 3),), (0,), (1,), (2, 3))
    save(other, layout=rig, joints=4)
    for map_them in (False, True):
        with pytest.raises(DataError, match="rig and kinect20 share too few joints"):
            TransferEvaluation.onto(run, None, other, map_joints=map_them)


def test_more_bodies_are_refused_or_cut_and_fewer_are_padded(run, other, tmp_path):
    store = save(other, layout="kinect20", joints=20, bodies=2)
    with pytest.raises(
        ConfigError, match="2 bodies a frame, but the run was trained on 1: --map-joints keeps the first"
    ):
        TransferEvaluation.onto(run, None, other)
    evaluation = TransferEvaluation.onto(run, None, other, map_joints=True)
    assert torch.equal(evaluation.clips.store.frames, store.frames[:, :60])
    assert (evaluation.target["bodies"], evaluation.target["bodies_taken"]) == (2, 1)
    assert evaluation.target["mapped_joints"] is None
    pair = tmp_path / "pair.safetensors"
    save(pair, bodies=2, dataset="pair")
    of_pairs = make_run(tmp_path / "pairs", pair)
    single = save(other, layout="kinect20", joints=20)
    frames = TransferEvaluation.onto(of_pairs, None, other, map_joints=True).clips.store.frames
    assert frames.shape[1] == 150
    assert torch.equal(frames[:, 75:], torch.zeros(len(frames), 75))
    poses = map_joints(KINECT20, NTU25)(single.frames.view(-1, 1, 20, 3).numpy())
    np.testing.assert_array_equal(frames[:, :75].numpy(), poses.reshape(-1, 75))
    assert evaluate(TransferEvaluation.onto(of_pairs, None, other, map_joints=True), QUICK)["to"]["bodies_taken"] == 1


def test_raw_clips_get_the_runs_preprocessing_and_prepared_ones_the_recipes(tiny_store, other, tmp_path):
    path = tmp_path / "prepared.safetensors"
    info = replace(tiny_store.info, preprocessing=tuple(describe_steps(DEFAULT_STEPS)))
    replace(tiny_store, info=info).save(path)
    run = make_run(tmp_path / "bones", path, align="rotate", stream="bone")
    raw = save(other)
    poses = map_joints(NTU25, KINECT20)(raw.frames.view(-1, 1, 25, 3).numpy())
    expected, _ = apply_steps(poses, raw.offsets.numpy(), KINECT20, (*DEFAULT_STEPS, Rotate(), Bone()))
    found = TransferEvaluation.onto(run, None, other, map_joints=True).clips.store
    np.testing.assert_allclose(found.frames.numpy(), expected.reshape(-1, 60), atol=1e-6)
    prepared = save(other, layout="kinect20", joints=20, steps=DEFAULT_STEPS)
    bones, _ = apply_steps(
        prepared.frames.view(-1, 1, 20, 3).numpy(), prepared.offsets.numpy(), KINECT20, (Rotate(), Bone())
    )
    found = TransferEvaluation.onto(run, None, other).clips.store
    np.testing.assert_array_equal(found.frames.numpy(), bones.reshape(-1, 60))
    save(other, layout="kinect20", joints=20, steps=(Center(), Rotate(), Downsample()))
    found = TransferEvaluation.onto(run, None, other).clips.store
    np.testing.assert_array_equal(found.frames.numpy(), bones.reshape(-1, 60))
    save(other, layout="kinect20", joints=20, steps=(Center(), Bone()))
    with pytest.raises(
        DataError, match="with center,bone, .* with center,downsample=60,rotate,bone: .* center,downsample=60$"
    ):
        TransferEvaluation.onto(run, None, other)


def test_streams_are_fused(tiny_path, other, tmp_path):
    save(other)
    evaluations = [
        TransferEvaluation.onto(make_run(tmp_path / stream, tiny_path, stream=stream), None, other, map_joints=True)
        for stream in ("joint", "motion")
    ]
    record = evaluate(evaluations, QUICK, weights=[1.0, 0.0])
    assert record["confusion"] == evaluate(evaluations[0], QUICK)["confusion"]
    assert record["file"].endswith("joint/eval/transfer-cml-fused-joint+motion-other.json")
    assert record["to"]["dataset"] == "other"
    assert [stream["stream"] for stream in record["streams"]] == ["joint", "motion"]
