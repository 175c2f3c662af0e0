import json
from dataclasses import replace

import pytest

from crrl_fast.data.info import Split
from crrl_fast.data.store import Store
from crrl_fast.evaluation import (
    FineTune,
    LinearProbe,
    NearestNeighbours,
    Retrieval,
    SemiSupervised,
    Tuning,
    all_protocols,
)
from tests.conftest import one_line_error, random_walks
from tests.evaluation.runs import make_run

PROTOCOLS = ("linear", "knn", "retrieval", "all")
QUICK = {"linear": ("--epochs", 2)}


@pytest.fixture
def run(tiny_path, tmp_path):
    """Return the path of a run on ``tiny_path``, seen from ``tmp_path``, where the command line runs."""
    make_run(tmp_path / "run", tiny_path, stages=("ser", "cml"))
    return "run"


def loaded(tmp_path, file):
    return json.loads((tmp_path / file).read_text())


@pytest.mark.parametrize(
    ("command", "options", "shown"),
    [
        ("linear", ("--epochs", 2, "--lr", 0.1, "--batch-size", 5, "--weight-decay", 0.01), "best epoch, on test"),
        ("knn", ("--k", 3), "3-nearest-neighbour by cosine"),
        ("retrieval", ("--gallery", "test", "--recall-at", "2,4"), "recall@4"),
    ],
)
def test_a_protocol_prints_a_table_and_writes_its_record(crrl, tmp_path, run, command, options, shown):
    code, out, err = crrl("eval", command, run, *options)
    assert (code, err) == (0, "")
    record = loaded(tmp_path, f"run/eval/{command}-cml.json")
    for part in (
        "tiny, split xview",
        "16 training, 8 test",
        "cml of run",
        f"{command} accuracy",
        f"{record['accuracy']:.1f} %",
        "mean of classes",
        "worst class",
        shown,
        record["protocol"][:40],
        f"written to run/eval/{command}-cml.json",
    ):
        assert part in out
    settings = dict(zip(options[::2], options[1::2], strict=True))
    for option, value in settings.items():
        name = option.removeprefix("--").replace("-", "_")
        assert record[name] == ([2, 4] if name == "recall_at" else value)


def test_the_linear_probe_says_that_the_last_epoch_is_the_result(crrl, run, tmp_path):
    code, out, _ = crrl("eval", "linear", run, "--epochs", 2, "--json", "new/linear.json")
    assert code == 0
    assert "the last epoch, not the best, is the result" in out
    record = loaded(tmp_path, "new/linear.json")
    assert record["accuracy"] == pytest.approx(record["curve"][-1])
    assert not (tmp_path / "run/eval").exists()


@pytest.mark.parametrize("command", PROTOCOLS[:3])
def test_streams_are_fused_with_the_weights_that_are_given(crrl, tmp_path, tiny_path, command):
    streams = ("joint", "motion", "bone")
    for stream in streams:
        make_run(tmp_path / stream, tiny_path, stream=stream)
    code, out, _ = crrl("eval", command, *streams, "--weights", "0.6,0.6,0.4", *QUICK.get(command, ()))
    assert code == 0
    assert "bone stream" in out
    assert "cml of bone, weight 0.4: accuracy" in out
    record = loaded(tmp_path, f"joint/eval/{command}-cml-fused-joint+motion+bone.json")
    assert [(one["run"], one["weight"]) for one in record["streams"]] == list(
        zip(streams, (0.6, 0.6, 0.4), strict=True)
    )
    assert crrl("eval", command, "joint", "bone", "--encoder", "random", *QUICK.get(command, ()))[0] == 0
    record = loaded(tmp_path, f"joint/eval/{command}-random-fused-joint+bone.json")
    assert [one["weight"] for one in record["streams"]] == [1, 1]


def quick_protocols(seed=0):
    """Return all protocols, with few epochs."""
    tuning = Tuning(epochs=1, seed=seed)
    semi = SemiSupervised(tuning, draws=2, min_steps=0)
    return LinearProbe(epochs=2, seed=seed), NearestNeighbours(), FineTune(tuning), semi, Retrieval()


def test_all_runs_every_protocol_and_ends_in_one_table(crrl, tmp_path, tiny_path, run, monkeypatch):
    monkeypatch.setattr("crrl_fast.evaluation.all_protocols", quick_protocols)
    arguments = ("--encoder", "concat", "--seed", 3, "--to", tiny_path, "--json", "all.json")
    code, out, err = crrl("eval", "all", run, *arguments)
    assert (code, err) == (0, "")
    records = loaded(tmp_path, "all.json")["evaluations"]
    names = [record["evaluation"] for record in records]
    assert names == [protocol.name for protocol in all_protocols()] + ["transfer"]
    for record in records:
        alone = loaded(tmp_path, f"run/eval/{record['evaluation']}-concat.json")
        assert {**alone, "file": record["file"]} == record
        assert record.get("seed", 3) == 3
        assert f"written to {record['file']}" in out
    summary = out[out.index("concat of run") :]
    for record in records:
        (row,) = [line for line in summary.splitlines() if f" {record['evaluation']} " in line]
        assert f"{record['accuracy']:.1f} %" in row
    for part in ("mAP", " 1 % of labels", "transfer to tiny", "the last epoch, not the best"):
        assert part in summary


def test_all_fuses_streams_in_every_protocol(crrl, tmp_path, tiny_path, monkeypatch):
    monkeypatch.setattr("crrl_fast.evaluation.all_protocols", quick_protocols)
    for stream in ("joint", "bone"):
        make_run(tmp_path / stream, tiny_path, stream=stream)
    code, out, _ = crrl("eval", "all", "joint", "bone", "--weights", "0.6,0.4")
    assert code == 0
    assert "cml-fused-joint+bone" in out
    for protocol in all_protocols():
        record = loaded(tmp_path, f"joint/eval/{protocol.name}-cml-fused-joint+bone.json")
        assert [stream["weight"] for stream in record["streams"]] == [0.6, 0.4]


@pytest.mark.parametrize("option", [("--map-joints",), ("--to-split", "xview")])
def test_options_of_transfer_without_a_target(crrl, run, option):
    one_line_error(crrl("eval", "all", run, *option), "name its data set with --to")


def test_all_refuses_an_unusable_target_before_it_starts(crrl, run, tmp_path):
    one_line_error(crrl("eval", "all", run, "--to", "absent.safetensors"), "absent.safetensors: no such file")
    assert not (tmp_path / "run/eval").exists()


@pytest.mark.parametrize("command", PROTOCOLS)
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("absent",), ["absent: not a run folder"]),
        (("run", "--encoder", "inf"), ["stage 'inf' has no checkpoint here; finished stages: cml, ser"]),
        (("run", "--split", "xsub"), ["no split 'xsub': it defines xview"]),
        (("run", "--data", "absent.safetensors"), ["absent.safetensors: no such file"]),
        (("run", "--device", "tpu"), ["'tpu'"]),
        (("run", "--weights", "1,1"), ["--weights 1,1: 2 for 1 run: give one a run"]),
        (("run", "run", "--weights", "1"), ["--weights 1: 1 for 2 runs"]),
        (("run", "run", "--weights", "1,x"), ["--weights '1,x': not a list of numbers"]),
        (("run", "run", "--weights", "1,nan"), ["finite"]),
        (("run", "run", "--weights", "0,0"), ["not all 0"]),
        (("run", "run", "--weights=-1,2"), ["at least 0"]),
    ],
)
def test_mistakes_end_in_one_line(crrl, tmp_path, run, command, arguments, parts):
    one_line_error(crrl("eval", command, *arguments), *parts)
    assert not (tmp_path / "run/eval").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("linear", "run", "--epochs", 0), ["epochs must be greater than 0"]),
        (("linear", "run", "--lr", "nan"), ["lr must be greater than 0"]),
        (("knn", "run", "--k", 0), ["k must be at least 1"]),
        (("knn", "run", "--k", 17), ["k is 17, but there are only 16 training clips"]),
        (("retrieval", "run", "--gallery", "all"), ["gallery must be train or test, got 'all'"]),
        (("retrieval", "run", "--recall-at", "1,x"), ["--recall-at '1,x': not a list of whole numbers"]),
        (("retrieval", "run", "--recall-at", "0"), ["at least 1"]),
        (("linear",), ["RUN"]),
    ],
)
@pytest.mark.usefixtures("run")
def test_mistakes_of_one_protocol(crrl, tmp_path, arguments, parts):
    one_line_error(crrl("eval", *arguments), *parts)
    assert not (tmp_path / "run/eval").exists()


def test_a_run_without_a_checkpoint(crrl, tmp_path, tiny_path):
    make_run(tmp_path / "run", tiny_path, stages=())
    one_line_error(crrl("eval", "all", "run"), "run: no stage has finished, so there is no checkpoint to use")


def test_a_damaged_checkpoint(crrl, tmp_path, run):
    (tmp_path / "run/cml.safetensors").write_bytes(b"nothing")
    one_line_error(crrl("eval", "all", run), "cml.safetensors: not a usable checkpoint")


def test_another_store(crrl, tmp_path, tiny_store, run):
    replace(tiny_store, frames=2 * tiny_store.frames).save(tmp_path / "other.safetensors")
    one_line_error(crrl("eval", "all", run, "--data", "other.safetensors"), "not the store that run was trained on")


@pytest.mark.parametrize(
    ("labels", "camera", "part"),
    [
        ([-1, -1, -1, -1], [1, 1, 2, 2], "store.safetensors: no clip has a label, and evaluation needs labels"),
        ([0, 1, -1, -1], [1, 1, 2, 2], "the test part of split 'x' has no labelled clip"),
        ([0, 1, 0, 1], [1, 1, 1, 1], "split 'x' puts no clip into its test part"),
        ([0, 0, 1, 1], [1, 1, 2, 2], "class 'class 1' has 2 test clips but no training clip in split 'x'"),
    ],
)
def test_stores_that_cannot_be_evaluated_on(crrl, tmp_path, labels, camera, part):
    path = tmp_path / "store.safetensors"
    splits = {"x": Split("camera", (1,))}
    Store.from_arrays(random_walks(4), labels=labels, camera=camera, layout="kinect20", splits=splits).save(path)
    make_run(tmp_path / "run", path)
    for command in PROTOCOLS:
        one_line_error(crrl("eval", command, "run"), part)
    assert not (tmp_path / "run/eval").exists()


def test_pretraining_takes_a_store_whose_evaluation_would_be_refused(crrl, tmp_path):
    path = tmp_path / "store.safetensors"
    splits = {"x": Split("camera", (1,))}
    Store.from_arrays(
        random_walks(6), labels=[0, 0, 1, 1, 0, -1], camera=[1, 1, 2, 2, 2, 2], layout="kinect20", splits=splits
    ).save(path)
    small = ("--set=epochs=1", "--set=hidden_size=4", "--set=queue_size=3", "--set=batch_size=2")
    code, _, _ = crrl("pretrain", "--data", path, "--stages", "cml", "--out", "run", *small)
    assert code == 0
    assert "knn" in json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    one_line_error(crrl("eval", "knn", "run"), "'class 1' has 2 test clips but no training clip in split 'x'")
