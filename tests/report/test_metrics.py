"""The log of a run, whole, interrupted and damaged."""

import json

import pytest

from crrl_fast.errors import DataError
from crrl_fast.report.metrics import read_metrics
from tests.report.conftest import epoch_record


def write(path, *records, end="\n"):
    path.write_text("\n".join(record if isinstance(record, str) else json.dumps(record) for record in records) + end)


def test_curves_are_by_stage_and_epoch(tmp_path):
    path = tmp_path / "metrics.jsonl"
    records = [
        epoch_record("cml", 1, accuracy=0.5),
        epoch_record("cml", 2, accuracy=0.6),
        epoch_record("ser", 1, forward=1.5, reverse=2.5),
    ]
    del records[0]["knn"]
    write(path, *records)
    cml, ser = read_metrics(path)
    assert (cml.stage, cml.epochs, cml.seconds, cml.clips_per_second) == ("cml", 2, 4.0, 12.0)
    assert cml.curves["loss"] == ((1, 4.0), (2, 2.0))
    assert cml.curves["knn"] == ((2, 32.0),)
    assert cml.parts == ()
    assert ser.parts == ("forward", "reverse")


def test_a_later_record_of_an_epoch_counts(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, epoch_record("ser", 1), epoch_record("ser", 2), epoch_record("ser", 1, loss=9.0))
    assert read_metrics(path)[0].curves["loss"] == ((1, 9.0), (2, 2.0))


def test_a_line_cut_short_at_the_end_is_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, epoch_record("ser", 1), '{"stage": "ser", "epo', end="")
    assert read_metrics(path)[0].epochs == 1


def test_what_is_not_finite_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, epoch_record("ser", 1), epoch_record("ser", 2, loss=float("nan")))
    assert read_metrics(path)[0].curves["loss"] == ((1, 4.0),)


def test_no_file_is_no_stage(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == ()


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"stage": "ser"}', '{"stage": "ser", "epoch": 1}', '{"stage": 1, "epoch": 1, "loss": 1}']
)
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    write(path, epoch_record("ser", 1), line, epoch_record("ser", 3))
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2"):
        read_metrics(path)
