import json
from dataclasses import replace

import pytest
import torch

from crrl_fast.data.info import Split
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError
from crrl_fast.evaluation import LinearProbe, NearestNeighbours, Retrieval, RunEvaluation, all_protocols, evaluate
from crrl_fast.evaluation.linear import linear_probe
from crrl_fast.evaluation.protocol import fusion_weights
from tests.conftest import random_walks
from tests.evaluation.runs import make_run

STREAMS = ("joint", "motion", "bone")
COMMON = {
    "evaluation",
    "protocol",
    "run",
    "encoder",
    "dataset",
    "split",
    "train_clips",
    "test_clips",
    "class_names",
    "accuracy",
    "per_class",
    "confusion",
    "versions",
}
OWN = {
    "linear": {"epochs", "lr", "batch_size", "weight_decay", "seed", "curve", "best_accuracy"},
    "knn": {"k"},
    "retrieval": {"gallery", "recall_at", "map", "recall", "per_class_map", "queries_left_out"},
}
PROTOCOLS = [LinearProbe(epochs=3), NearestNeighbours(3), Retrieval()]


@pytest.fixture
def evaluations(tiny_path, tmp_path):
    return [RunEvaluation.open(make_run(tmp_path / stream, tiny_path, stream=stream)) for stream in STREAMS]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=[protocol.name for protocol in PROTOCOLS])
def test_a_record_says_everything_and_adds_up(protocol, evaluations, tmp_path):
    returned = evaluate(evaluations[0], protocol)
    file = tmp_path / "joint" / "eval" / f"{protocol.name}-cml.json"
    record = json.loads(file.read_text())
    assert {**record, "file": str(file)} == json.loads(json.dumps(returned))
    assert set(record) == COMMON | OWN[protocol.name]
    assert (record["evaluation"], record["encoder"], record["run"]) == (protocol.name, "cml", str(tmp_path / "joint"))
    assert (record["dataset"], record["split"]) == ("tiny", "xview")
    assert (record["train_clips"], record["test_clips"]) == (16, 8)
    assert record["class_names"] == ["class 0", "class 1", "class 2"]
    confusion = torch.tensor(record["confusion"])
    assert confusion.sum(dim=1).tolist() == [2, 3, 3]
    assert record["accuracy"] == pytest.approx(100 * int(confusion.trace()) / 8)
    assert record["per_class"] == pytest.approx((100 * confusion.diagonal() / confusion.sum(dim=1)).tolist())


def test_linear_probes_of_streams_are_fused_by_their_probabilities(evaluations, tmp_path):
    probe, weights = LinearProbe(epochs=3), [0.6, 0.6, 0.4]
    returned = evaluate(evaluations, probe, weights=weights)
    record = json.loads((tmp_path / "joint/eval/linear-cml-fused-joint+motion+bone.json").read_text())
    assert record["accuracy"] == returned["accuracy"]
    alone = [linear_probe(evaluation.features, probe) for evaluation in evaluations]
    assert record["streams"] == [
        {
            "run": str(tmp_path / stream),
            "encoder": "cml",
            "stream": stream,
            "weight": weight,
            "accuracy": pytest.approx(result.accuracy),
        }
        for stream, weight, result in zip(STREAMS, weights, alone, strict=True)
    ]
    scores = sum(weight * result.outcome.scores for weight, result in zip(weights, alone, strict=True))
    expected = (scores.argmax(dim=1) == evaluations[0].features.test_labels).double().mean()
    assert record["accuracy"] == pytest.approx(100 * float(expected))
    assert set(record) == (COMMON | OWN["linear"] | {"streams"}) - {"curve", "best_accuracy"}
    assert "weighted sum of the class probabilities" in record["protocol"]


def test_the_weight_of_one_encoder_alone_gives_its_own_result(evaluations):
    for i, protocol in enumerate(PROTOCOLS):
        weights = [float(i == j) for j in range(3)]
        fused, alone = evaluate(evaluations, protocol, weights=weights), evaluate(evaluations[i], protocol)
        assert fused["confusion"] == alone["confusion"]
        assert fused["streams"][i]["accuracy"] == alone["accuracy"]


def test_a_class_without_test_clips_has_no_accuracy(tmp_path):
    path = tmp_path / "store.safetensors"
    Store.from_arrays(
        random_walks(8),
        labels=[0, 1, 2, 3, 0, 1, 3, 3],
        camera=[1, 1, 1, 1, 2, 2, 2, 2],
        layout="kinect20",
        splits={"x": Split("camera", (1,))},
    ).save(path)
    evaluation = RunEvaluation.open(make_run(tmp_path / "run", path))
    for protocol in PROTOCOLS:
        record = evaluate(evaluation, protocol)
        assert record["per_class"][2] is None
        assert None not in record["per_class"][:2]
        assert record["confusion"][2] == [0] * 4
    assert record["per_class_map"][2] is None


def test_every_split_and_fusion_has_a_file_of_its_own(tiny_store, tmp_path):
    path = tmp_path / "store.safetensors"
    splits = {**tiny_store.info.splits, "other": Split("camera", (1, 3))}
    replace(tiny_store, info=replace(tiny_store.info, splits=splits)).save(path)
    run, other = (make_run(tmp_path / name, path, split="xview", stages=("ser", "cml")) for name in ("run", "other"))
    for encoder, split in ((None, None), ("ser", "xview"), ("ser", "other"), ("concat", None), ("random", None)):
        evaluate(RunEvaluation.open(run, encoder, split=split), NearestNeighbours())
    first = make_run(tmp_path / "first", path)
    records = [
        evaluate(RunEvaluation.open(first, split=split), NearestNeighbours()) for split in (None, "xview", "other")
    ]
    noted = ["pretrained, without labels, on split xview" in record["protocol"] for record in records]
    assert noted == [False, False, True]
    assert sorted(file.name for file in (first.path / "eval").iterdir()) == ["knn-cml-other.json", "knn-cml.json"]
    evaluate([RunEvaluation.open(run), RunEvaluation.open(other)], NearestNeighbours())
    evaluate([RunEvaluation.open(run), RunEvaluation.open(run, "ser")], NearestNeighbours())
    evaluate(RunEvaluation.open(run), NearestNeighbours(), json_file=tmp_path / "new" / "knn.json")
    assert sorted(file.name for file in (run.path / "eval").iterdir()) == [
        "knn-cml+ser-fused-joint+joint.json",
        "knn-cml-fused-joint+joint.json",
        "knn-cml.json",
        "knn-concat.json",
        "knn-random.json",
        "knn-ser-other.json",
        "knn-ser.json",
    ]
    assert not (other.path / "eval").exists()
    assert json.loads((tmp_path / "new" / "knn.json").read_text())["encoder"] == "cml"


def test_runs_on_other_clips_are_not_fused(tiny_store, tiny_path, tmp_path):
    splits = {**tiny_store.info.splits, "other": Split("camera", (1, 3))}
    replace(tiny_store, info=replace(tiny_store.info, splits=splits)).save(tiny_path)
    first = RunEvaluation.open(make_run(tmp_path / "first", tiny_path))
    second = RunEvaluation.open(make_run(tmp_path / "second", tiny_path, split="other"))
    with pytest.raises(ConfigError, match=r"second: .* split 'other', but .*first .* 'xview': .*--split"):
        evaluate([first, second], NearestNeighbours())
    path = tmp_path / "moved.safetensors"
    replace(tiny_store, frames=2 * tiny_store.frames).save(path)
    third = RunEvaluation.open(make_run(tmp_path / "third", path))
    with pytest.raises(ConfigError, match=r"third: .*another store than .*first"):
        evaluate([first, third], NearestNeighbours())
    assert not (first.run.path / "eval").exists()


@pytest.mark.parametrize(
    ("weights", "count", "message"),
    [
        ([1.0], 2, "1 for 2 runs"),
        ([1.0, 2.0], 1, "2 for 1 run:"),
        ([1.0, -1.0], 2, "at least 0"),
        ([0.0, 0.0], 2, "not all 0"),
        ([1.0, float("nan")], 2, "finite"),
        ([1.0, float("inf")], 2, "finite"),
        (None, 0, "no run"),
    ],
)
def test_unusable_weights(weights, count, message):
    with pytest.raises(ConfigError, match=message):
        fusion_weights(weights, count)


def test_all_protocols_take_the_seed():
    protocols = all_protocols(seed=7)
    assert [protocol.name for protocol in protocols] == ["linear", "knn", "finetune", "semi", "retrieval"]
    assert [protocol.settings()["seed"] for protocol in protocols if "seed" in protocol.settings()] == [7] * 3
    assert all_protocols()[0] == LinearProbe()
