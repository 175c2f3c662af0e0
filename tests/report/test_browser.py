"""The page in headless Chromium: nothing loaded, nothing logged, nothing cut off, nothing too small."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from crrl_fast import Split, Store
from crrl_fast.report.build import ReportRequest, write_report
from tests.report.conftest import RECIPE, epoch_record, evaluation_record

WIDTHS = (1280, 400)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
SMALLEST_TEXT = 11

# Boxes of all visible text, cut off where their containers cut them off: [number of the text, text, font size, left,
# top, right, bottom].
TEXT_BOXES = """() => {
  const boxes = [];
  let number = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.data.trim() || !parent.checkVisibility() || parent.closest('.hidden, style')) continue;
    number++;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const rect of range.getClientRects()) {
      let [left, top, right, bottom] = [rect.left, rect.top, rect.right, rect.bottom];
      for (let box = parent; box !== document.body; box = box.parentElement) {
        if (getComputedStyle(box).overflow === 'visible') continue;
        const clip = box.getBoundingClientRect();
        left = Math.max(left, clip.left), right = Math.min(right, clip.right);
        top = Math.max(top, clip.top), bottom = Math.min(bottom, clip.bottom);
      }
      if (right - left > 1 && bottom - top > 1)
        boxes.push([
          number, node.data.trim(), parseFloat(getComputedStyle(parent).fontSize), left, top, right, bottom]);
    }
  }
  return boxes;
}"""


@pytest.fixture(scope="module")
def chromium():
    """Return headless Chromium; without it the tests skip, or fail where a browser is required."""
    for package in ("jinja2", "sklearn", "matplotlib", "PIL"):
        pytest.importorskip(package)
    program = os.environ.get("CRRL_CHROMIUM") or shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if program is None or sync_playwright is None:
        message = "no Chromium (CRRL_CHROMIUM or chromium on the path)" if program is None else "no playwright"
        if os.environ.get("CRRL_REQUIRE_BROWSER") == "1":
            pytest.fail(f"CRRL_REQUIRE_BROWSER=1, but {message}")
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def opened(browser, path, width, scheme="light"):
    """Open a page; on the way out it must have loaded, logged and asked for nothing."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    trouble, requests = [], []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("requestfailed", lambda request: trouble.append(request.url))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert trouble == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]


def overlaps(boxes):
    """Return pairs of texts that share more than two pixels in both directions."""
    number = np.array([box[0] for box in boxes])
    sides = np.array([box[3:] for box in boxes])
    low = np.maximum(sides[:, None, :2], sides[None, :, :2])
    high = np.minimum(sides[:, None, 2:], sides[None, :, 2:])
    # A text that is cut off with an ellipsis has two boxes: whole and cut.
    shared = (high - low > 2).all(axis=2) & (number[:, None] < number)
    return [(boxes[i][1], boxes[j][1]) for i, j in np.argwhere(shared)]


def check(browser, path):
    """Check a page at both widths and return it for more."""
    for width in WIDTHS:
        with opened(browser, path, width) as page:
            across = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
            assert across[0] <= across[1], width
            natural = page.evaluate("[...document.images].map(image => [image.naturalWidth, image.clientWidth])")
            assert all(size > 0 and shown > 0 for size, shown in natural)
            boxes = page.evaluate(TEXT_BOXES)
            assert min(box[2] for box in boxes) >= SMALLEST_TEXT
            assert overlaps(boxes) == [], width
            hidden = [box for box in boxes if box[3] < -1 or box[5] > width + 1]
            assert hidden == [], width


@pytest.fixture
def real_run(tmp_path, monkeypatch):
    """Pretrain and evaluate from the command line, on generated clips of four classes; return the run folder."""
    rng = np.random.default_rng(0)
    labels = [i % 4 for i in range(64)]
    clips = [np.cumsum(rng.normal(label - 1.5, 1, (12, 20, 3)), axis=0) * 0.05 for label in labels]
    store = Store.from_arrays(
        clips,
        labels,
        subject=[i // 4 % 2 for i in range(64)],
        splits={"xsub": Split("subject", (0,))},
        layout="kinect20",
        dataset="walks",
        class_names=["left", "right", "up", "<b>down</b>"],
    )
    path = tmp_path / "walks.safetensors"
    store.save(path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    run = tmp_path / "run"
    fields = ("epochs=3", "hidden_size=8", "queue_size=16", "batch_size=8")
    small = [f"--set={field}" for field in fields]
    for command in (
        ["pretrain", "--data", path, "--out", run, "--probe-every", "1", *small],
        ["eval", "linear", run, "--epochs", "20"],
        ["eval", "knn", run],
        ["report", run],
    ):
        words = [sys.executable, "-m", "crrl_fast", *map(str, command)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"report: {run / 'report.html'}, ")
    return run


def test_a_real_run_from_pretraining_to_its_page(chromium, real_run):
    path = real_run / "report.html"
    check(chromium, path)
    with opened(chromium, path, 1280) as page:
        assert page.title() == "walks: run"
        assert page.locator("h1").inner_text() == "walks, split xsub"
        assert page.locator("figure.chart").count() == 4
        assert page.locator(".example").count() >= 4
        assert page.locator(".map .plane em", has_text="<b>down</b>").is_visible()
        assert page.locator("img").count() >= 16
    with opened(chromium, path, 1280, scheme="dark") as page:
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == "rgb(21, 25, 28)"


def many_classes(count, each=4):
    """Return a store of ``count`` classes with names of all lengths."""
    rng = np.random.default_rng(0)
    labels = [i % count for i in range(count * each)]
    clips = [rng.normal(size=(5, 20, 3)).cumsum(axis=0) * 0.1 + label % 7 for label in labels]
    names = [f"action {i} " + "with something long in the hand " * (i % 3) for i in range(count)]
    return Store.from_arrays(
        clips,
        labels,
        subject=[i // count % 2 for i in range(len(labels))],
        splits={"xsub": Split("subject", (0,))},
        layout="kinect20",
        dataset="a-data-set-with-a-name-that-has-no-end-and-no-space-in-it",
        class_names=names,
        names=[f"clip-{i:05}-of-a-recording-with-a-long-name-and-no-space" for i in range(len(labels))],
    )


def record_of(store, **values):
    """Return a record of random confusion on a store's classes, with every kind of figure."""
    confusion = np.random.default_rng(1).integers(0, 3, (store.num_classes, store.num_classes)).tolist()
    return evaluation_record(
        class_names=list(store.info.class_names), confusion=confusion, per_class=None, protocol="how " * 40, **values
    )


@pytest.mark.usefixtures("two_examples")
@pytest.mark.parametrize("classes", [3, 20, 60, 120])
def test_few_and_many_classes(chromium, make_run, tmp_path, classes):
    store = many_classes(classes)
    path = tmp_path / "many.safetensors"
    store.save(path)
    fraction = {"percent": 1, "clips": 2000, "draws": 5, "accuracies": [1], "mean": 41.5, "std": 1.25}
    streams = [{"stream": s, "encoder": "inf", "weight": 0.6, "accuracy": 51.0} for s in ("joint", "motion", "bone")]
    records = [
        record_of(store),
        record_of(store, kind="semi", fractions=[fraction]),
        record_of(store, kind="retrieval", map=30.0, recall={"1": 100.0, "10": 100.0}),
        record_of(store, kind="finetune", streams=streams),
    ]
    run = make_run(store, path, "a-run-with-a-long-name-20260101-000000-and-more", records=records)
    lines = [epoch_record("inf", e, forward=2 / e, reverse=2.01 / e, distill=0.01) for e in range(1, 31)]
    (run.path / "metrics.jsonl").write_text("".join(f"{line}\n".replace("'", '"') for line in lines))
    check(chromium, write_report(ReportRequest((run.path,), None, None, (), torch.device("cpu"))))


@pytest.mark.usefixtures("two_examples")
@pytest.mark.parametrize("count", [2, 5])
def test_several_runs(chromium, make_run, tmp_path, count):
    store = many_classes(16)
    path = tmp_path / "many.safetensors"
    store.save(path)
    runs = [
        make_run(
            store,
            path,
            f"run-{i}-with-a-long-name-20260101-000000",
            records=[record_of(store, accuracy=50.0 + i)],
            recipe=RECIPE.with_overrides({"epochs": 2 + i}),
        ).path
        for i in range(count)
    ]
    out = tmp_path / "several.html"
    check(chromium, write_report(ReportRequest(tuple(runs), out, None, (), torch.device("cpu"))))


@pytest.mark.usefixtures("two_examples")
def test_what_is_left_of_a_run(chromium, make_run, unlabelled, tiny_path):
    unlabelled.save(tiny_path)
    run = make_run(unlabelled, tiny_path, records=[])
    check(chromium, write_report(ReportRequest((run.path,), None, None, (), torch.device("cpu"))))
    tiny_path.unlink()
    (run.path / "metrics.jsonl").unlink()
    check(chromium, write_report(ReportRequest((run.path,), None, None, (), torch.device("cpu"))))
