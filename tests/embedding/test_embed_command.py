"""`crrl-fast embed` as a user meets it."""

import csv
import io
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import crrl_fast
from crrl_fast.data.info import Split
from crrl_fast.data.preprocess import DEFAULT_STEPS
from crrl_fast.data.store import Store
from tests.conftest import one_line_error, random_walks
from tests.data.foreign import make_clips, write_pyskl, write_stgcn
from tests.data.test_ucla import clip_json
from tests.embedding.runs import make_run

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture
def run(tmp_path, tiny_store, tiny_path):
    """Return the path of a run on ``tiny_store``."""
    return make_run(tmp_path / "run", tiny_store, tiny_path).path


@pytest.fixture
def ntu_run(tmp_path):
    """Return the path of a run on two bodies of 25 joints, prepared by default."""
    store = Store.from_arrays([np.ones((3, 2, 25, 3))], layout="ntu25", steps=DEFAULT_STEPS)
    return make_run(tmp_path / "ntu", store).path


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def features_of(rows):
    size = sum(key.startswith("feature_") for key in rows[0])
    return np.array([[row[f"feature_{i}"] for i in range(size)] for row in rows], dtype=np.float32)


def test_a_store_to_standard_output_and_nothing_else_there(crrl, run, tiny_path):
    code, out, err = crrl("embed", run, tiny_path)
    assert code == 0
    rows = rows_of(out)
    assert [row["name"] for row in rows] == [f"clip {i}" for i in range(24)]
    assert [row["class"] for row in rows[:3]] == ["class 0", "class 1", "class 2"]
    expected = crrl_fast.load(run, device="cpu").encode(random_walks(24))
    np.testing.assert_allclose(features_of(rows), expected, **CLOSE)
    assert f"standard output: 24 clips, 16 features each, encoder cml of {run}" in err


def test_a_store_by_name_to_a_file(crrl, run, tiny_store, tmp_path):
    tiny_store.save(tmp_path / "stores" / "mine.safetensors")
    (tmp_path / "mine").mkdir()  # a folder of that name is ./mine
    code, out, err = crrl("embed", run, "mine", "--encoder", "concat", "--out", "out/mine.npz")
    assert (code, err) == (0, "")
    assert out == f"out/mine.npz: 24 clips, 32 features each, encoder concat of {run}\n"
    with np.load(tmp_path / "out" / "mine.npz", allow_pickle=False) as found:
        assert found["features"].shape == (24, 32)
        assert found["labels"].tolist() == tiny_store.labels.tolist()
    one_line_error(crrl("embed", run, "./mine"), "mine: no reader recognises it")


def test_one_part_of_a_split(crrl, run, tiny_path):
    code, out, _ = crrl("embed", run, tiny_path, "--part", "test")
    assert code == 0
    assert [row["name"] for row in rows_of(out)] == [f"clip {i}" for i in range(16, 24)]
    code, out, _ = crrl("embed", run, tiny_path, "--split", "xview", "--part", "train")
    assert len(rows_of(out)) == 16
    one_line_error(crrl("embed", run, tiny_path, "--split", "xview"), "--part train or test")
    one_line_error(crrl("embed", run, tiny_path, "--part", "val"), "unknown part 'val'")
    one_line_error(crrl("embed", run, tiny_path, "--split", "xsub", "--part", "test"), "no split 'xsub'")


def test_the_split_of_a_part_is_the_runs(crrl, run, tmp_path):
    splits = {"xsub": Split("subject", (1,)), "xview": Split("camera", (1,))}
    columns = {"subject": [1, 2, 1, 2], "camera": [1, 1, 1, 2]}
    store = Store.from_arrays(random_walks(4), layout="kinect20", splits=splits, **columns)
    store.save(tmp_path / "other.safetensors")
    code, out, _ = crrl("embed", run, "other.safetensors", "--part", "test")
    assert code == 0
    assert [row["name"] for row in rows_of(out)] == ["clip 3"]
    store.camera[:] = 1
    store.save(tmp_path / "other.safetensors")
    one_line_error(crrl("embed", run, "other.safetensors", "--part", "test"), "the test part", "has no clips")


def test_files_are_read_as_prepare_reads_them(crrl, tmp_path):
    """NW-UCLA's own files give what their store gives, whichever preprocessing the store has had."""
    with zipfile.ZipFile(tmp_path / "all_sqe.zip", "w") as file:
        for view, episode in ((1, 0), (1, 1), (3, 2)):
            clip = clip_json(frames=70 * episode + 1, label=episode + 1, value=0.1 * view)
            file.writestr(f"all_sqe/a01_s01_e0{episode}_v0{view}.json", json.dumps(clip))
    assert crrl("prepare", "ucla", "all_sqe.zip")[0] == 0
    assert crrl("prepare", "raw", "all_sqe.zip", "--preprocess", "none")[0] == 0
    make_run(tmp_path / "run", Store.open(tmp_path / "stores" / "ucla.safetensors"), max_frames=30, stream="bone")
    outputs = {data: crrl("embed", "run", data) for data in ("ucla", "raw", "all_sqe.zip")}
    assert {code for code, _, _ in outputs.values()} == {0}
    rows = {data: rows_of(out) for data, (_, out, _) in outputs.items()}
    assert [row["frames"] for row in rows["ucla"]] == ["1", "30", "30"]
    for data in ("raw", "all_sqe.zip"):
        for column in ("name", "label", "class", "frames"):
            assert [row[column] for row in rows[data]] == [row[column] for row in rows["ucla"]]
        np.testing.assert_allclose(features_of(rows[data]), features_of(rows["ucla"]), **CLOSE)
    assert "all_sqe.zip: NW-UCLA: 3 JSON clips" in outputs["all_sqe.zip"][2]
    _, out, _ = crrl("embed", "run", "all_sqe.zip", "--part", "test")
    assert [row["name"] for row in rows_of(out)] == ["a01_s01_e02_v03"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all_sqe.zip", "run", "stores"]
    assert len(list((tmp_path / "stores").iterdir())) == 2


@pytest.mark.parametrize("layout", ["st-gcn", "pyskl", "folder", "npz"])
def test_other_peoples_layouts(crrl, ntu_run, tmp_path, layout):
    clips = make_clips(6)
    options = []
    if layout == "st-gcn":
        source = write_stgcn(tmp_path / "xsub", clips, num_frame=True)
        clips = sorted(clips, key=lambda clip: clip.fold)
    elif layout == "pyskl":
        source = write_pyskl(tmp_path / "mine.pkl", clips)
        options = ["--dataset", "ntu60"]
    elif layout == "folder":
        source = tmp_path / "demo"  # a bare `demo` is the generated set
        source.mkdir()
        for i, clip in enumerate(clips):  # one body where the second is absent: the run has two
            np.save(source / f"{i}.npy", clip.coords if clip.coords[:, 1].any() else clip.coords[:, 0])
    else:
        source = tmp_path / "mine.npz"
        np.savez(source, **{clip.name: clip.coords for clip in clips})
    code, out, err = crrl("embed", ntu_run, source, *options)
    assert code == 0, err
    expected = crrl_fast.load(ntu_run, device="cpu").encode([clip.coords for clip in clips])
    rows = rows_of(out)
    np.testing.assert_allclose(features_of(rows), expected, **CLOSE)
    if layout in ("st-gcn", "pyskl"):
        assert [int(row["label"]) for row in rows] == [clip.label for clip in clips]
    if layout == "pyskl":
        assert rows[0]["class"] == crrl_fast.data.ntu_actions.ACTIONS[clips[0].label]


def test_labels_names_and_bad_files_of_ones_own(crrl, run, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name, clip in zip(("a, b", 'say "x"', "broken"), random_walks(3), strict=True):
        np.save(folder / f"{name}.npy", clip)
    np.save(folder / "broken.npy", np.full((3, 20, 3), np.nan))
    (tmp_path / "labels.csv").write_text('name,label\n"a, b",sit\n"say ""x""",stand\n')
    one_line_error(crrl("embed", run, folder), "broken", "nan at frame 0")
    arguments = ("embed", run, folder, "--labels", tmp_path / "labels.csv", "--skip-bad", "--workers", 1)
    code, out, err = crrl(*arguments, "--layout", "clips", "--joints", "kinect20")
    assert code == 0
    assert {row["name"]: row["class"] for row in rows_of(out)} == {"a, b": "sit", 'say "x"': "stand"}
    assert "broken.npy: nan at frame 0" in err


def test_clips_with_too_many_bodies_can_be_left_out(crrl, run, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    np.save(folder / "one.npy", random_walks(2)[1])
    np.save(folder / "two.npy", np.zeros((3, 2, 20, 3)))
    one_line_error(crrl("embed", run, folder), "clip 'two' has 2 bodies", "trained on 1")
    _, out, err = crrl("embed", run, folder, "--skip-bad")
    assert [row["name"] for row in rows_of(out)] == ["one"]
    assert "clip 'two' has 2 bodies" in err


def test_the_right_joints_are_asked_for(crrl, run, ntu_run, tiny_path, tmp_path):
    np.savez(tmp_path / "clip.npz", a=np.zeros((3, 20, 3)))
    one_line_error(crrl("embed", ntu_run, tiny_path), "'kinect20' (20 joints)", "'ntu25' (25 joints)")
    one_line_error(crrl("embed", ntu_run, "clip.npz"), "shape (3, 20, 3)", "joint layout 'ntu25'")
    one_line_error(crrl("embed", ntu_run, "clip.npz", "--joints", "kinect20"), "'kinect20' (20 joints)", "'ntu25'")
    assert crrl("embed", run, "clip.npz")[0] == 0


def test_a_store_that_was_prepared_in_another_way(crrl, tmp_path, run):
    store = Store.from_arrays(random_walks(3), layout="kinect20", steps=DEFAULT_STEPS)
    store.save(tmp_path / "centred.safetensors")
    one_line_error(
        crrl("embed", run, "centred.safetensors", "--out", "x.npz"),
        "with center,downsample=60, but",
        "with downsample=60,rotate: prepare it with --preprocess none",
    )
    assert not (tmp_path / "x.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["absent", "demo"], ["absent: not a run folder"]),
        (["run", "nothing"], ["no data set 'nothing'"]),
        (["run", "absent.zip", "--layout", "ucla"], ["absent.zip: no such file or folder"]),
        (["run", "absent.safetensors"], ["absent.safetensors: no such file"]),
        (["run", "tiny.safetensors", "--encoder", "inf"], ["stage 'inf' has no checkpoint here"]),
        (["run", "tiny.safetensors", "--out", "x.txt"], ["unknown suffix '.txt'", ".npz, .parquet, .csv"]),
        (["run", "tiny.safetensors", "--joints", "ntu25"], ["a store, which takes no --joints"]),
        (["run", "tiny.safetensors", "--layout", "clips"], ["a store, which takes no --layout"]),
        (["run", "tiny.safetensors", "--skip-bad"], ["takes no --skip-bad"]),
        (["run", "demo", "--labels", "x.csv"], ["demo: a store, which takes no --labels"]),
        (["run", "tiny.safetensors", "--device", "tpu"], ["unknown device 'tpu'"]),
        (["run"], ["'data'", "crrl-fast embed --help"]),
        (["run", "tiny.safetensors", "--out", "run/config.json/x.npz"], ["x.npz: cannot be written"]),
    ],
)
@pytest.mark.usefixtures("run")
def test_mistakes_end_in_one_line_and_print_nothing_else(crrl, tmp_path, arguments, parts):
    result = crrl("embed", *arguments)
    one_line_error(result, *parts)
    assert result[1] == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "tiny.safetensors"]


def test_parquet_without_pyarrow_ends_before_the_work(crrl, run, tiny_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    one_line_error(crrl("embed", run, tiny_path, "--out", "x.parquet"), "pip install 'crrl-fast[parquet]'")


def test_a_reader_that_leaves_early_is_no_error(run, tiny_path):
    command = [sys.executable, "-m", "crrl_fast", "embed", str(run), str(tiny_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 141
    assert err == ""
