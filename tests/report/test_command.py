"""`crrl-fast report` as a user meets it."""

import sys

import pytest

from tests.conftest import one_line_error
from tests.report.conftest import evaluation_record


@pytest.fixture
def run_on_tiny(make_run, tiny_store, tiny_path):
    for package in ("jinja2", "sklearn", "matplotlib", "PIL"):
        pytest.importorskip(package)
    return make_run(tiny_store, tiny_path, "one")


def test_a_report_of_one_run_lies_in_its_folder(crrl, run_on_tiny):
    code, out, _ = crrl("report", "one")
    assert code == 0
    assert out.startswith("report: one/report.html, 0.")
    assert "<h1>tiny, split xview</h1>" in (run_on_tiny.path / "report.html").read_text()


@pytest.mark.usefixtures("run_on_tiny")
def test_a_report_of_several_lies_here_or_where_it_is_told(crrl, make_run, tiny_store, tiny_path, tmp_path):
    make_run(tiny_store, tiny_path, "two", records=[evaluation_record("knn")])
    assert crrl("report", "one", "two")[0] == 0
    assert crrl("report", "two", "one", "--out", "new/both.html", "--encoder", "cml", "--device", "cpu")[0] == 0
    assert "<h1>tiny: 2 runs</h1>" in (tmp_path / "report.html").read_text()
    assert "encoder cml" in (tmp_path / "new/both.html").read_text()
    assert not (tmp_path / "one/report.html").exists()


@pytest.mark.usefixtures("run_on_tiny")
def test_mistakes(crrl, make_run, tiny_store, tiny_path, tmp_path, monkeypatch):
    one_line_error(crrl("report"), "RUN", "crrl-fast report --help")
    one_line_error(crrl("report", "absent"), "absent: not a run folder")
    one_line_error(crrl("report", "one", "./one"), "named twice")
    one_line_error(crrl("report", "one", "--encoder", "ser"), "no checkpoint")
    one_line_error(crrl("report", "one", "--data", "absent.safetensors"), "absent.safetensors: no such file")
    make_run(tiny_store, tiny_path, "empty", finished=[])
    one_line_error(crrl("report", "one", "empty"), "empty: no stage has finished")
    (tmp_path / "one/eval/linear-inf.json").write_text("{")
    one_line_error(crrl("report", "one"), "one/eval/linear-inf.json", "not a record of an evaluation")
    assert not list(tmp_path.rglob("*.html"))
    monkeypatch.setitem(sys.modules, "jinja2", None)
    one_line_error(crrl("report", "one"), "pip install 'crrl-fast[report]'")
