"""Records of evaluations: every protocol, older ones, damaged ones."""

import json

import pytest

from crrl_fast.errors import DataError
from crrl_fast.report.evaluations import read_evaluations
from tests.report.conftest import evaluation_record


def read(tmp_path, record):
    (tmp_path / "a.json").write_text(json.dumps(record))
    (evaluation,) = read_evaluations(tmp_path)
    return evaluation


def test_one_figure(tmp_path):
    linear = read(tmp_path, evaluation_record())
    assert (linear.title, linear.encoder, linear.protocol) == ("Linear probe", "inf", "how linear is done")
    assert [(f.name, f.value, f.spread) for f in linear.figures] == [("", 62.5, None)]
    assert linear.clips == (16, 8)
    assert linear.confusion.tolist() == [[3, 1, 0], [0, 2, 2], [0, 0, 0]]


@pytest.mark.parametrize(("k", "name"), [(1, ""), (5, "k = 5")])
def test_k_is_said_where_it_is_not_one(tmp_path, k, name):
    assert read(tmp_path, evaluation_record("knn", k=k)).figures[0].name == name


def test_every_fraction_has_mean_spread_and_draws(tmp_path):
    fractions = [
        {"percent": 1, "clips": 3, "draws": 2, "accuracies": [10.0, 20.0], "mean": 15.0, "std": 5.0},
        {"percent": 10, "clips": 30, "draws": 1, "accuracies": [40.0], "mean": 40.0, "std": 0.0},
    ]
    figures = read(tmp_path, evaluation_record("semi", fractions=fractions)).figures
    assert [(f.name, f.value, f.spread, f.note) for f in figures] == [
        ("1 % of the labels", 15.0, 5.0, "2 draws of 3 clips"),
        ("10 % of the labels", 40.0, 0.0, "1 draw of 30 clips"),
    ]


def test_retrieval_has_precision_and_recall_in_the_order_of_k(tmp_path):
    record = evaluation_record("retrieval", map=33.0, recall={"10": 90.0, "1": 60.0, "5": 80.0})
    figures = read(tmp_path, record).figures
    assert [f.value for f in figures] == [33.0, 60.0, 80.0, 90.0]
    assert figures[-1].name == "recall@10"


def test_transfer_names_where_to(tmp_path):
    to = {"data": "d.safetensors", "dataset": "ucla", "split": "xview"}
    assert read(tmp_path, evaluation_record("transfer", to=to)).title == "Transfer to ucla"


def test_streams_of_a_late_fusion(tmp_path):
    streams = [{"run": "a", "encoder": "inf", "stream": "bone", "weight": 0.6, "accuracy": 50.0}]
    evaluation = read(tmp_path, evaluation_record(streams=streams))
    assert evaluation.title == "Linear probe, fused streams"
    assert (evaluation.streams[0].stream, evaluation.streams[0].weight) == ("bone", 0.6)


def test_a_record_of_an_older_version_lacks_classes(tmp_path):
    old = {"evaluation": "linear", "encoder": "ser", "accuracy": 50.0}
    evaluation = read(tmp_path, old)
    assert (evaluation.confusion, evaluation.class_names, evaluation.clips) == (None, None, None)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        json.dumps({"evaluation": "linear", "encoder": "ser"}),
        json.dumps(evaluation_record(accuracy="high")),
        json.dumps(evaluation_record(confusion=[[1, 2], [3]])),
        json.dumps(evaluation_record(confusion=[[1, 2, 3]])),
        json.dumps(evaluation_record(confusion=[[0.5]])),
        json.dumps(evaluation_record(class_names=["one"])),
        json.dumps(evaluation_record("semi", fractions=[{"percent": 1}])),
        json.dumps(evaluation_record(streams=[3])),
    ],
)
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(DataError, match=r"bad\.json: not a record of an evaluation"):
        read_evaluations(tmp_path)


def test_records_come_in_the_order_of_their_names_and_no_folder_has_none(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.json").write_text(json.dumps(evaluation_record(encoder=name)))
    assert [e.encoder for e in read_evaluations(tmp_path)] == ["a", "b"]
    assert read_evaluations(tmp_path / "absent") == ()
