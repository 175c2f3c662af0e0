"""The command line as a user meets it: in-process for speed, by its installed name where that is the point."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import one_line_error
from tests.data.ntu_files import standing, write_ntu
from tests.data.test_ucla import GOOD, clip_json

SMALL = [f"--set={field}" for field in ("epochs=1", "hidden_size=4", "queue_size=3", "batch_size=8")]


def test_the_main_job_from_a_zip_to_results(crrl, tmp_path):
    archive = tmp_path / "ucla.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for view in (1, 2, 3):
            for episode in range(5):
                clip = clip_json(frames=episode + 1, label=episode % 2 + 1, value=0.1 * view)
                file.writestr(f"all_sqe/a01_s01_e0{episode}_v0{view}.json", json.dumps(clip))
    code, out, _ = crrl("prepare", "ucla", archive)
    assert code == 0
    assert "split xview: 10 training clips, 5 test clips" in out
    code, out, _ = crrl("pretrain", "--data", "ucla", "--out", "run", *SMALL)
    assert code == 0
    assert "crrl-fast eval linear run" in out
    code, out, _ = crrl("eval", "linear", "run", "--epochs", 3)
    assert code == 0
    assert "linear accuracy" in out
    record = json.loads((tmp_path / "run/eval/linear-inf.json").read_text())
    assert (record["train_clips"], record["test_clips"], record["split"]) == (10, 5, "xview")
    assert record["accuracy"] == record["curve"][-1]
    code, out, _ = crrl("eval", "knn", "run", "--encoder", "random", "--json", tmp_path / "deep" / "knn.json")
    assert code == 0
    assert json.loads((tmp_path / "deep/knn.json").read_text())["encoder"] == "random"


def test_prepare_ntu60_from_a_folder_of_raw_files(crrl, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("S001C001P001R001A001", "S001C002P003R001A060", "S018C001P008R001A061", "S001C002P005R002A008"):
        write_ntu(raw / f"{name}.skeleton", standing(12)[:, None])
    (raw / "S001C003P001R001A001.skeleton").write_text("1\n0\n")
    code, out, _ = crrl("prepare", "ntu60", raw)
    assert code == 0
    for line in (
        "raw: NTU RGB+D: 5 raw skeleton files",
        "left out: 1 clip, of actions above 60, which NTU RGB+D 60 does not have",
        "left out: 1 clip, on the authors' list of missing or incomplete skeletons",
        "left out: 1 clip, without a body in any frame",
        "ntu60.safetensors: 2 clips, 24 frames, 60 classes, ntu25",
        "split xsub: 1 training clips, 1 test clips",
        "split xview: 1 training clips, 1 test clips",
    ):
        assert line in out
    (raw / "S001C001P002R001A001.skeleton").write_text("1\n1\n1 0")
    one_line_error(crrl("prepare", "ntu60", raw), "P002R001A001.skeleton, line 3: a body has 2 columns, expected 10")
    code, out, _ = crrl("prepare", "ntu60", raw, "--skip-bad")
    assert code == 0
    assert "line 3: a body has 2 columns" in out


def test_recipe_from_toml_and_set(crrl, tmp_path, tiny_path):
    toml = tmp_path / "recipe.toml"
    toml.write_text("lr = 0.5\nbatch_size = 3\n")
    code, _, _ = crrl("pretrain", "--data", tiny_path, "--stages", "ser", "--out", "run", "--config", toml, *SMALL)
    assert code == 0
    recipe = json.loads((tmp_path / "run/config.json").read_text())["recipe"]
    assert (recipe["lr"], recipe["batch_size"], recipe["epochs"]) == (0.5, 8, 1)


@pytest.mark.parametrize(
    ("chosen", "stages", "fusion", "encoder"),
    [
        ([], ["cml", "inf"], "distill", "inf"),
        (["--fusion", "joint"], ["joint"], "joint", "joint"),
        (["--fusion", "concat"], ["ser", "cml"], "concat", "concat"),
        (["--stages", "ser,joint"], ["ser", "joint"], None, "joint"),
    ],
)
def test_a_fusion_chooses_stages_and_the_encoder_that_is_evaluated(
    crrl, tmp_path, tiny_path, chosen, stages, fusion, encoder
):
    assert crrl("pretrain", "--data", tiny_path, *chosen, "--out", "run", *SMALL)[0] == 0
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert (config["stages"], config["fusion"]) == (stages, fusion)
    assert {path.stem for path in (tmp_path / "run").glob("*.safetensors")} == set(stages)
    assert crrl("eval", "knn", "run")[0] == 0
    assert json.loads((tmp_path / f"run/eval/knn-{encoder}.json").read_text())["encoder"] == encoder


def test_the_default_run_folder_is_named_after_data_and_recipe(crrl, tmp_path, tiny_path):
    assert crrl("pretrain", "--data", tiny_path, "--stages", "cml", *SMALL)[0] == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("tiny-paper-")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["pretrain", "--data", "nope"], ["'nope'", "demo, ucla"]),
        (["pretrain", "--data", "ucla"], ["crrl-fast prepare ucla SOURCE"]),
        (["pretrain"], ["--data"]),
        (["pretrain", "--data", "demo", "--lr", "3"], ["--lr", "crrl-fast pretrain --help"]),
        (["pretrain", "--data", "demo", "--seed", "x"], ["--seed", "crrl-fast pretrain --help"]),
        (["pretrain", "--data", "demo", "--set", "lr"], ["field=value"]),
        (["pretrain", "--data", "demo", "--set", "lr=fast"], ["lr", "'fast'"]),
        (["pretrain", "--data", "demo", "--recipe", "quick"], ["'quick'", "paper, fast"]),
        (["pretrain", "--data", "demo", "--stages", "inf"], ["put cml before it"]),
        (["pretrain", "--data", "demo", "--fusion", "both"], ["'both'", "distill, joint, concat"]),
        (["pretrain", "--data", "demo", "--fusion", "joint", "--stages", "ser"], ["either a fusion or stages"]),
        (["pretrain", "--data", "demo", "--stages", ""], ["name each stage once"]),
        (["bench", "train", "--processes", "2,1"], ["--processes '2,1'", "rising numbers of at least 1, as in 1,2"]),
        (["bench", "train", "--processes", "two"], ["--processes 'two'", "not a list of whole numbers"]),
        (["bench", "train", "--processes", "1,2", "--plot", "a.png"], ["no figure: leave --plot out"]),
        (["bench", "train", "--stages", "joint"], ["unknown stage 'joint'", "ser, cml, inf, which the release has"]),
        (["pretrain", "--data", "demo", "--device", "tpu"], ["'tpu'", "auto, cpu or cuda"]),
        (["pretrain", "--data", "demo", "--config", "absent.toml"], ["absent.toml"]),
        (["prepare", "ucla", "absent.zip"], ["absent.zip: no such file or folder"]),
        (["prepare", "ucla"], ["needs a SOURCE"]),
        (["prepare", "kinetics", "x"], ["x: no such file or folder"]),
        (["prepare", "demo", "--preprocess", "centre"], ["'centre'"]),
        (["eval", "linear", "absent"], ["absent: not a run folder"]),
        (["eval", "linear", "absent", "--epochs", "0"], ["epochs must be greater than 0"]),
        (["eval", "medium"], ["medium"]),
        (["fly"], ["fly"]),
    ],
)
def test_mistakes_end_in_one_line(crrl, tmp_path, arguments, parts):
    one_line_error(crrl(*arguments), *parts)
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "stores").exists()


@pytest.mark.parametrize("group", [[], ["eval"], ["bench"]])
def test_a_group_without_a_command_shows_its_help_alone(crrl, group):
    _, out, err = crrl(*group)
    assert "Usage: " + " ".join(["crrl-fast", *group]) in out
    assert err == ""


def test_a_bad_clip_leaves_no_store(crrl, tmp_path):
    folder = tmp_path / "all_sqe"
    folder.mkdir()
    for name, clip in {**GOOD, "a03_s01_e00_v01.json": clip_json(value=float("nan"))}.items():
        (folder / name).write_text(json.dumps(clip))
    one_line_error(crrl("prepare", "ucla", folder), "a03_s01_e00_v01.json", "nan at frame 0", "repair or remove")
    assert not list(tmp_path.rglob("*.safetensors*"))


def test_a_truncated_store(crrl, tiny_path):
    tiny_path.write_bytes(tiny_path.read_bytes()[:-100])
    one_line_error(crrl("pretrain", "--data", tiny_path, "--out", "run"), "tiny.safetensors", "prepare it again")


def test_a_moved_store_is_found_with_data(crrl, tmp_path, tiny_path):
    assert crrl("pretrain", "--data", tiny_path, "--stages", "cml", "--out", "run", *SMALL)[0] == 0
    moved = tmp_path / "moved.safetensors"
    tiny_path.rename(moved)
    one_line_error(crrl("eval", "knn", "run"), "tiny.safetensors: no such file")
    assert crrl("eval", "knn", "run", "--data", moved)[0] == 0


def test_bench_writes_record_table_and_figure(crrl, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    from crrl_fast.benchmark import cases, ops

    monkeypatch.setattr(ops, "OP_CASES", {"motion_diff": cases.OP_CASES["motion_diff"]})
    monkeypatch.setattr(cases.motion_diff, "TRAINING_BATCH", (2, 3))
    monkeypatch.setattr(cases.motion_diff, "LARGE_BATCH", {"cpu": (2, 3)})
    written = ("--json", "new/ops.json", "--markdown", "ops.md", "--plot", "new/ops.png")
    code, out, _ = crrl("bench", "ops", "--device", "cpu", "--rounds", 1, *written)
    assert code == 0
    assert "torch.compile" in out
    assert json.loads((tmp_path / "new/ops.json").read_text())["cases"][0]["op"] == "motion_diff"
    assert "motion_diff forward (2, 3, 150)" in (tmp_path / "ops.md").read_text()
    assert (tmp_path / "new/ops.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def quick_training(monkeypatch):
    """Make recipe `paper` tiny, and the products that training is compared with."""
    from crrl_fast.benchmark.train import gemm
    from crrl_fast.config import Recipe
    from crrl_fast.recipes import RECIPES

    monkeypatch.setitem(RECIPES, "paper", Recipe(hidden_size=8, batch_size=4, queue_size=8))
    monkeypatch.setattr(gemm, "SIDE", {"cpu": 16})


@pytest.mark.usefixtures("quick_training")
def test_bench_train_writes_record_tables_and_figure(crrl, tmp_path, tiny_path):
    pytest.importorskip("matplotlib")
    sizes = ("--rounds", 2, "--steps", 1, "--curve-steps", 3, "--device", "cpu")
    written = ("--json", "new/train.json", "--markdown", "train.md", "--plot", "new/train.png")
    code, out, _ = crrl("bench", "train", "--data", tiny_path, "--stages", "ser, cml,inf", *sizes, *written)
    assert code == 0
    assert "whole of cml,inf" in out
    record = json.loads((tmp_path / "new/train.json").read_text())
    assert [stage["stage"] for stage in record["data"][0]["stages"]] == ["ser", "cml", "inf"]
    assert len(record["curves"][0]["ours"]) == 3
    assert "| stock float32 |" in (tmp_path / "train.md").read_text()
    assert (tmp_path / "new/train.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("quick_training")
def test_bench_train_fails_where_losses_differ_and_keeps_the_record(crrl, tmp_path, tiny_path, monkeypatch):
    from crrl_fast.benchmark.train import ours

    class Wrong(ours.OurTraining):
        def __init__(self, module, clips, recipe):
            super().__init__(module, clips, recipe.with_overrides({"lr": recipe.lr * 1.01}))

    monkeypatch.setattr(ours, "OurTraining", Wrong)
    code, _, err = crrl("bench", "train", "--data", tiny_path, "--curve-steps", 4, "--json", "train.json")
    assert code == 1
    assert err.startswith(f"crrl-fast: cml on {tiny_path}: the loss of step 2 is")
    assert err.count("\n") == 1
    record = json.loads((tmp_path / "train.json").read_text())
    assert len(record["curves"]) == 2
    assert record["data"] == []


def test_bench_train_refuses_a_stage_or_a_store_that_is_not_there(crrl, tiny_path):
    one_line_error(crrl("bench", "train", "--stages", "cml,x"), "unknown stage 'x'")
    one_line_error(crrl("bench", "train", "--data", tiny_path, "--data", "nothing"), "no data set 'nothing'")


def test_a_plot_without_matplotlib_ends_before_it_measures(crrl, tmp_path, monkeypatch):
    from crrl_fast import benchmark

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(benchmark, "run_ops_benchmark", None)
    one_line_error(crrl("bench", "ops", "--plot", "ops.png"), "pip install matplotlib")
    one_line_error(crrl("bench", "train", "--plot", "train.png"), "pip install matplotlib")


@pytest.mark.parametrize("target", ["/dev/null/x.safetensors", "folder"])
def test_unwritable_results_end_in_one_line(crrl, tmp_path, target):
    (tmp_path / "folder").mkdir()
    one_line_error(crrl("prepare", "demo", "--out", target), target, "cannot be written")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_ctrl_c_keeps_what_finished(crrl, tmp_path, tiny_path, monkeypatch):
    from crrl_fast.training.loop import StageLoop

    run = StageLoop.run

    def interrupt(self, **kwargs):
        if self.name == "inf":
            raise KeyboardInterrupt
        run(self, **kwargs)

    monkeypatch.setattr(StageLoop, "run", interrupt)
    code, _, err = crrl("pretrain", "--data", tiny_path, "--out", "run", *SMALL)
    assert (code, err) == (
        130,
        "crrl-fast: interrupted: run keeps its log, its checkpoints and the stages that finished\n",
    )
    assert (tmp_path / "run/cml.safetensors").exists()


def test_doctor_reports(crrl):
    code, out, _ = crrl("doctor")
    assert "against torch" in out
    assert (code == 0) == ("no problems found" in out)


@pytest.mark.parametrize("command", [["crrl-fast"], [sys.executable, "-m", "crrl_fast"]])
def test_both_names_of_the_command(command, tmp_path):
    scripts = str(Path(sys.executable).parent)
    if command == ["crrl-fast"] and shutil.which("crrl-fast", path=scripts) is None:
        pytest.skip("crrl-fast runs from its source tree here, and is not installed")
    result = subprocess.run(
        [*command, "eval", "knn", "absent"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "PYTHONPATH": str(Path(__file__).parents[1])},
        check=False,
    )
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr


def test_prepare_says_what_it_recognised_and_checks_or_skips(crrl, tmp_path):
    folder = tmp_path / "all_sqe"
    folder.mkdir()
    for i, value in enumerate([0.5, float("nan"), 0.5]):
        (folder / f"a01_s0{i + 1}_e00_v01.json").write_text(json.dumps(clip_json(value=value)))
    code, out, _ = crrl("prepare", "--check", folder)
    assert code == 2
    assert "NW-UCLA: 3 JSON clips" in out
    assert "a01_s02_e00_v01.json: nan at frame 0" in out
    assert "2 clips can be read, 1 problem" in out
    code, out, _ = crrl("prepare", "ucla", folder, "--skip-bad", "--out", tmp_path / "two.safetensors")
    assert code == 0
    assert "a01_s02_e00_v01.json: nan at frame 0" in out
    assert "2 clips" in out


def test_inspect_by_name_or_path(crrl, tmp_path, tiny_path):
    code, out, _ = crrl("inspect", tiny_path, "--json", "new/tiny.json")
    assert code == 0
    assert "xview by camera: 16 training, 8 test" in out
    assert json.loads((tmp_path / "new/tiny.json").read_text())["clips"] == 24
    (tmp_path / "stores").mkdir()
    tiny_path.rename(tmp_path / "stores/tiny.safetensors")
    assert "kinect20" in crrl("inspect", "tiny")[1]


def test_inspect_draws_a_clip(crrl, tmp_path, tiny_path):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    code, out, _ = crrl("inspect", tiny_path, "--clip", 3)
    assert code == 0
    assert out == f"tiny-clip-3.png: clip 3, clip 3  |  class 0  |  {image_frames(tiny_path)} frames\n"
    with image.open(tmp_path / "tiny-clip-3.png") as picture:
        assert len(picture.getcolors(1 << 24)) > 3
    options = ("--view", "side", "--out", "new/clip.gif", "--json", "tiny.json")
    assert crrl("inspect", tiny_path, "--clip", "clip 3", *options)[0] == 0
    with image.open(tmp_path / "new/clip.gif") as picture:
        assert picture.n_frames == image_frames(tiny_path)
    assert (tmp_path / "tiny.json").exists()


def image_frames(path):
    from crrl_fast import Store

    return int(Store.open(path).lengths[3])


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--clip", "24"], ["no clip 24", "clips are 0 to 23"]),
        (["--clip", "clop"], ["no clip 'clop'", "such as clip 9"]),
        (["--clip", "3", "--view", "back"], ["'back'", "front, side, top"]),
        (["--clip", "3", "--out", "clip.svg"], ["clip.svg", ".png"]),
        (["--out", "clip.png"], ["--clip"]),
    ],
)
def test_mistakes_of_inspect(crrl, tmp_path, tiny_path, options, parts):
    one_line_error(crrl("inspect", tiny_path, *options), *parts)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.safetensors"]


def test_inspect_without_a_store_or_a_drawing_package(crrl, tmp_path, tiny_path, monkeypatch):
    one_line_error(crrl("inspect", "absent.safetensors"), "absent.safetensors: no such file")
    one_line_error(crrl("inspect", "absent"), "no data set 'absent'")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    one_line_error(crrl("inspect", tiny_path, "--clip", 3), "pip install 'crrl-fast[plot]'")
