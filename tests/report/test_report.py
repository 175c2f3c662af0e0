"""The page as a file: what is in it, of whole runs and of what is left of them."""

import json
import shutil
import sys
from html.parser import HTMLParser
from itertools import pairwise

import pytest
import torch

from crrl_fast import Split, Store
from crrl_fast.errors import ConfigError, CrrlError, DataError
from crrl_fast.report.build import ReportRequest, write_report
from tests.conftest import random_walks
from tests.report.conftest import RECIPE, epoch_record, evaluation_record

for package in ("jinja2", "sklearn", "matplotlib", "PIL"):
    pytest.importorskip(package)

pytestmark = pytest.mark.usefixtures("two_examples")

HOSTILE = "<script>alert('é')</script>&\"'"


class Page(HTMLParser):
    """What a page consists of, and that its elements close in order."""

    VOID = ("meta", "link", "img", "path", "br")

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(text)
        assert self.open == []
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def write(*runs, out=None, data=(), encoder=None):
    paths = tuple(getattr(run, "path", run) for run in runs)
    return write_report(ReportRequest(paths, out, encoder, tuple(map(str, data)), torch.device("cpu")))


def page(*runs, **options):
    return Page(write(*runs, **options).read_text(encoding="utf-8"))


def test_a_page_loads_nothing_and_describes_its_images(tiny_run):
    text = write(tiny_run).read_text(encoding="utf-8")
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "@import" not in text
    found = Page(text)
    assert ("html", {"lang": "en"}) in found.tags
    assert not found.all("script") and not found.all("iframe") and not found.all("object")
    for _, attributes in found.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))
    images = found.all("img")
    assert len(images) > 4
    assert all(image["alt"].startswith(("Query: ", "Neighbour ")) for image in images)
    assert all(image["src"].startswith("data:image/png;base64,") for image in images)
    roles = [attributes for _, attributes in found.tags if attributes.get("role") == "img"]
    assert len(roles) >= 5
    assert all(attributes["aria-label"] for attributes in roles)


def test_headings_descend_one_level_at_a_time(tiny_run):
    levels = [int(tag[1]) for tag, _ in page(tiny_run).tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


def test_a_run_is_told_whole(make_run, tiny_store, tiny_path):
    semi = {"percent": 5, "clips": 2, "draws": 3, "accuracies": [1, 2, 3], "mean": 41.5, "std": 1.25}
    streams = [{"run": "b", "encoder": "ser", "stream": "bone", "weight": 0.4, "accuracy": 51.0}]
    records = [
        evaluation_record("linear"),
        evaluation_record("linear", encoder="random", accuracy=33.3),
        evaluation_record("knn", accuracy=37.5),
        evaluation_record("semi", fractions=[semi]),
        evaluation_record("retrieval", map=22.2, recall={"1": 37.5, "5": 87.5}),
        evaluation_record("transfer", accuracy=71.0, to={"dataset": "other", "split": "xsub", "data": "x"}),
        evaluation_record("finetune", accuracy=81.0, streams=streams),
    ]
    run = make_run(tiny_store, tiny_path, records=records)
    text = page(run).text
    for part in (
        "tiny, split xview",
        "Run run : recipe paper, stages cml, inf; encoder inf",
        "untrained 33.3 %",
        "3 draws of 2 clips 41.5 ± 1.2",
        "Retrieval, recall@5",
        "Transfer to other",
        "bone (ser) \u00d7 0.4: 51.0 alone",
        "how semi is done",
        "no test clips",
        "xview: 16 training clips, 8 test clips",
        tiny_store.info.sha256,
        "torch 2.13.0",
        "cpu, 1 thread",
        "8 test clips",
    ):
        assert part in text, part
    stages = text[text.index("Throughput") :]
    assert "cml 2 12 4 s inf 2 12 4 s" in stages
    assert "epochs 2 paper: 60" in text
    changed = [attributes for tag, attributes in page(run).tags if attributes.get("class") == "changed"]
    assert len(changed) == 4  # epochs, lr, hidden_size, layers


def test_the_same_run_gives_the_same_bytes(make_run, tiny_store, tiny_path, tmp_path):
    run = make_run(tiny_store, tiny_path)
    one, two = (write(run, out=tmp_path / f"{i}.html").read_bytes() for i in range(2))
    assert one == two
    assert write(run) == run.path / "report.html"
    assert (run.path / "report.html").read_bytes() == one


def test_text_of_others_is_text(make_run, tmp_path):
    names = [f"{HOSTILE} {i}" for i in range(24)]
    store = Store.from_arrays(
        random_walks(24),
        [i % 3 for i in range(24)],
        camera=[i // 8 + 1 for i in range(24)],
        class_names=[HOSTILE, "<b>b", "c"],
        names=names,
        dataset=HOSTILE,
        layout="kinect20",
        splits={"<i>x": Split("camera", (1, 2))},
    )
    path = tmp_path / "<b>.safetensors"
    store.save(path)
    record = evaluation_record(class_names=[HOSTILE, "<b>b", "c"], protocol=HOSTILE)
    one, two = (make_run(store, path, f"<u>{i}", records=[record], recipe=RECIPE) for i in range(2))
    (one.path / "metrics.jsonl").write_text(json.dumps(epoch_record(HOSTILE, 1, **{HOSTILE: 1.0})) + "\n")
    for found in (page(one), page(one, two, out=tmp_path / "both.html")):
        assert not {"script", "b>b", "u"} & {tag for tag, _ in found.tags}
        assert HOSTILE in found.text
        assert all("<script>" not in key for _, attributes in found.tags for key in attributes)
        assert any(HOSTILE in image["alt"] for image in found.all("img"))


def test_a_large_matrix_is_a_picture_with_a_list_of_pairs(make_run, tiny_store, tiny_path):
    count = 60
    confusion = [[9 if i == j else 4 if (i, j) == (7, 30) else 0 for j in range(count)] for i in range(count)]
    names = [f"action {i}" for i in range(count)]
    record = evaluation_record(class_names=names, confusion=confusion, per_class=None)
    found = page(make_run(tiny_store, tiny_path, records=[record]))
    assert "action 7 action 30 4 31 %" in found.text
    (heat,) = [a["aria-label"] for _, a in found.tags if "Confusion matrix of 60" in a.get("aria-label", "")]
    assert "action 7 taken for action 30, 4 clips" in heat
    assert not [a for a in found.all("table") if a.get("class") == "matrix"]


def test_a_record_without_names_takes_those_of_the_store(make_run, tiny_store, tiny_path):
    record = evaluation_record()
    del record["class_names"]
    found = page(make_run(tiny_store, tiny_path, records=[record]))
    assert "class 0 75.0" in found.text


def test_runs_beside_each_other(make_run, tiny_store, tiny_path, tmp_path):
    other = evaluation_record(accuracy=50.0, confusion=[[2, 2, 0], [0, 2, 2], [0, 0, 0]])
    one = make_run(tiny_store, tiny_path, "one")
    two = make_run(tiny_store, tiny_path, "two", records=[other], recipe=RECIPE.with_overrides({"epochs": 3}))
    found = page(one, two, out=tmp_path / "new" / "both.html")
    assert "tiny: 2 runs" in found.text
    assert "Linear probe 62.5 (best) 50.0" in found.text
    assert "Where the recipes differ Field one two epochs 2 3 All fields" in found.text
    assert "1 sit \u221225.0 2 stand 0.0" in found.text
    assert "two minus one" in found.text
    maps = [a["aria-label"] for _, a in found.tags if a.get("aria-label", "").startswith("Map of 8 test clips")]
    assert len(maps) == 2
    curves = [a["aria-label"] for _, a in found.tags if a.get("aria-label", "").startswith("cml: loss.")]
    assert "one: 4.00 at epoch 1" in curves[0] and "two: 4.00 at epoch 1, 1.33 at epoch 3" in curves[0]


def test_runs_of_different_classes_are_not_compared_by_class(make_run, tiny_store, tiny_path, tmp_path):
    other = evaluation_record(class_names=["x", "y", "z"])
    runs = make_run(tiny_store, tiny_path, "one"), make_run(tiny_store, tiny_path, "two", records=[other])
    assert "The classes cannot be compared" in page(*runs, out=tmp_path / "both.html").text


def test_runs_of_one_name_are_told_apart(make_run, tiny_store, tiny_path, tmp_path):
    for folder in ("a", "b"):
        make_run(tiny_store, tiny_path, f"{folder}/run")
    found = page(tmp_path / "a/run", tmp_path / "b/run", out=tmp_path / "both.html")
    assert f"{tmp_path}/a/run" in found.text
    with pytest.raises(ConfigError, match="named twice"):
        write(tmp_path / "a/run", tmp_path / "a/../a/run")


def test_a_run_that_was_not_evaluated_says_how(make_run, tiny_store, tiny_path):
    run = make_run(tiny_store, tiny_path, records=[])
    found = page(run)
    assert f"crrl-fast eval all {run.path}" in found.text
    assert f"crrl-fast eval linear {run.path}" in found.text
    assert "8 test clips" in found.text
    assert found.all("img")


def test_records_of_older_versions_have_no_classes(make_run, tiny_store, tiny_path):
    old = {"evaluation": "linear", "encoder": "inf", "accuracy": 50.0, "protocol": "old"}
    found = page(make_run(tiny_store, tiny_path, records=[old]))
    assert "Linear probe 50.0" in found.text
    assert "No record has the classes" in found.text


def test_clips_without_labels(make_run, unlabelled, tiny_path):
    unlabelled.save(tiny_path)
    run = make_run(unlabelled, tiny_path, records=[])
    lines = [{k: v for k, v in epoch_record("cml", e).items() if k != "knn"} for e in (1, 2)]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = page(run)
    assert "they have no labels, so they have one colour" in found.text
    assert "The log has no probe" in found.text
    assert not [a for _, a in found.tags if a.get("class") in ("right", "wrong", "legend")]
    assert "Query: skeleton poses of an unlabelled clip" in found.all("img")[0]["alt"]


def test_a_split_without_a_test_part_shows_its_training_clips(make_run, tmp_path):
    store = Store.from_arrays(random_walks(12), [i % 2 for i in range(12)], layout="kinect20")
    path = tmp_path / "all.safetensors"
    store.save(path)
    found = page(make_run(store, path, records=[]))
    assert "12 training clips." in found.text
    assert "none: 12 training clips" not in found.text
    assert "12 training clips, 0 test clips" in found.text


def test_a_store_that_moved_is_named_or_done_without(tiny_run, tiny_store, tiny_path, tmp_path):
    moved = tmp_path / "moved.safetensors"
    whole = write(tiny_run, out=tmp_path / "whole.html").read_text()
    tiny_path.rename(moved)
    found = page(tiny_run)
    assert "No map and no neighbours" in found.text
    assert "--data FILE" in found.text
    assert "tiny.safetensors: no such file" in found.text
    assert "16 training clips, 8 test clips" in found.text
    assert not found.all("img")
    assert write(tiny_run, data=[moved], out=tmp_path / "again.html").read_text() == whole
    Store.from_arrays(random_walks(3), layout="kinect20").save(tiny_path)
    assert "is another store than the one" in page(tiny_run).text
    with pytest.raises(ConfigError, match="not the store that"):
        write(tiny_run, data=[tiny_path])
    with pytest.raises(DataError, match=r"absent\.safetensors: no such file"):
        write(tiny_run, data=[tmp_path / "absent.safetensors"])


def test_the_poses_are_the_stores_whatever_stream_was_trained_on(make_run, tiny_store, tiny_path):
    def queries(stream):
        run = make_run(tiny_store, tiny_path, stream, recipe=RECIPE.with_overrides({"stream": stream}))
        return [image["src"] for image in page(run).all("img") if image["alt"].startswith("Query")][:1]

    assert queries("joint") == queries("motion")


def test_an_interrupted_run_says_where_it_stopped(make_run, tiny_store, tiny_path):
    run = make_run(tiny_store, tiny_path, finished=["cml"], records=[])
    lines = [epoch_record("cml", 1), epoch_record("cml", 2), epoch_record("inf", 1)]
    (run.path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"stage": "in')
    found = page(run)
    assert "encoder cml" in found.text
    assert "Stage inf stopped after 1 of 2 epochs." in found.text
    (run.path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines[:2])) + "\n")
    assert "Stage inf was not started." in page(run).text
    steps = make_run(tiny_store, tiny_path, "steps", recipe=RECIPE.with_overrides({"steps": 3}), records=[])
    assert "Stage inf stopped after 2 of 3 epochs." in page(steps).text
    (run.path / "metrics.jsonl").unlink()
    assert "The log (metrics.jsonl) is missing" in page(run).text


def test_what_cannot_be_reported_on_leaves_no_page(make_run, tiny_store, tiny_path, tmp_path):
    out = tmp_path / "out.html"
    cases = [
        (make_run(tiny_store, tiny_path, "a", finished=[]), ConfigError, "a: no stage has finished"),
        (tmp_path, ConfigError, "not a run folder"),
    ]
    damaged = make_run(tiny_store, tiny_path, "b")
    (damaged.path / "eval/linear-inf.json").write_text("{")
    cases.append((damaged, DataError, r"b/eval/linear-inf\.json"))
    log = make_run(tiny_store, tiny_path, "c")
    (log.path / "metrics.jsonl").write_text("{\n{\n")
    cases.append((log, DataError, r"c/metrics\.jsonl, line 1"))
    weights = make_run(tiny_store, tiny_path, "d")
    (weights.path / "inf.safetensors").write_bytes(b"no")
    cases.append((weights, ConfigError, r"d/inf\.safetensors: not a usable checkpoint"))
    for run, error, message in cases:
        with pytest.raises(error, match=message):
            write(run, out=out)
    with pytest.raises(ConfigError, match="no checkpoint"):
        write(make_run(tiny_store, tiny_path, "e"), encoder="ser", out=out)
    with pytest.raises(CrrlError, match="cannot be written"):
        write(tmp_path / "e", out=tmp_path)
    assert not out.exists()
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("package", ["jinja2", "sklearn.manifold", "matplotlib.figure", "PIL.Image"])
def test_a_missing_package_is_named_with_its_cure(tiny_run, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CrrlError, match=r"pip install 'crrl-fast\[report\]'"):
        write(tiny_run)
    assert not (tiny_run.path / "report.html").exists()


def test_a_copied_run_reports_the_same_but_for_its_place(tiny_run, tmp_path):
    copy = tmp_path / "elsewhere" / "run"
    shutil.copytree(tiny_run.path, copy)
    assert write(copy).read_text().replace(str(copy), str(tiny_run.path)) == write(tiny_run).read_text()
