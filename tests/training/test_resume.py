"""Going on with a run: from a signal, a damaged checkpoint, another recipe, a full disk."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import crrl_fast
from crrl_fast import Split, Store
from crrl_fast.data.preprocess import parse_steps
from crrl_fast.errors import CheckpointError, ConfigError
from crrl_fast.evaluation import RunEvaluation
from crrl_fast.lock import folder_lock
from crrl_fast.run import RunFolder
from crrl_fast.training.checkpoint import checkpoints_in, read_checkpoint, remove_checkpoint, write_checkpoint
from crrl_fast.training.loop import StageLoop
from crrl_fast.training.pretrain import pretrain as run_pretraining
from crrl_fast.training.request import PretrainRequest
from crrl_fast.training.stopping import Interruption
from tests.conftest import one_line_error, random_walks
from tests.training.runs import SMALL, assert_same_runs, interrupted, metrics, pretrain, stop_after

ROOT = Path(__file__).parents[2]
ADDED = (
    *("optimizer", "lr_schedule", "warmup", "steps"),
    *("velocity_scale", "projection_size", "queue_start", "views", "symmetric", "within_stream"),
    "align",
    *("reconstruction_weight", "decoder_size", "decoder_layers", "decode_from", "velocity_weight"),
    *("feature", "whitening", "whitening_views"),
)  # to the recipe, since the first checkpoints were written
SET = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]


@pytest.mark.parametrize("steps", [1, 6, 12, 13, 24])
def test_a_signal_saves_and_resuming_changes_no_bit(tiny_path, tmp_path, monkeypatch, steps):
    whole = pretrain(tiny_path, tmp_path / "whole", probe_every=1)
    run = tmp_path / "run"
    stopped = interrupted(monkeypatch, tiny_path, run, steps, probe_every=1)
    stage, epoch, step = ("cml", "inf")[(steps - 1) // 12], (steps - 1) % 12 // 4 + 1, (steps - 1) % 4 + 1
    assert stopped.exit_code == 143
    assert str(stopped) == (
        f"stopped by SIGTERM and saved at {stage} epoch {epoch}, step {step}: "
        f"`crrl-fast pretrain --resume {run}` goes on"
    )
    assert not (run / ".lock").exists()
    resumed = crrl_fast.pretrain(resume=run, quiet=True)
    assert resumed.config == whole.config
    assert_same_runs(run, whole.path)


def test_options_of_checkpoints_are_those_of_the_run_unless_given(tiny_path, tmp_path, monkeypatch):
    run = tmp_path / "run"
    interrupted(monkeypatch, tiny_path, run, 6, checkpoint_every=1, checkpoint_minutes=0.5, keep=7, stages=("ser",))
    resumed = crrl_fast.pretrain(resume=run, keep=1, quiet=True).config
    assert (resumed.checkpoint_every, resumed.checkpoint_minutes, resumed.keep) == (1, 0.5, 1)
    assert len(checkpoints_in(run)) == 1


def test_tensorboard_shows_each_epoch_once(tiny_path, tmp_path, monkeypatch):
    run = tmp_path / "run"
    interrupted(monkeypatch, tiny_path, run, 10, checkpoint_every=1, stages=("ser",))
    for path in checkpoints_in(run)[1:]:
        path.unlink()  # as if it had been killed: the log is now ahead of the checkpoint
    assert [row["epoch"] for row in metrics(run)] == [1, 2]
    resumed = crrl_fast.pretrain(resume=run, quiet=True)
    assert [row["epoch"] for row in metrics(run)] == [1, 2, 3]
    assert len(list(run.glob("events.out.tfevents.*"))) == 1
    events = EventAccumulator(str(resumed.path)).Reload()
    assert [event.step for event in events.Scalars("ser/loss")] == [1, 2, 3]
    assert [event.value for event in events.Scalars("ser/loss")] == pytest.approx([r["loss"] for r in metrics(run)])


def command(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "crrl_fast", "pretrain", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def wait_for_line(process, part):
    for line in process.stdout:
        if part in line:
            return
    pytest.fail(process.stderr.read())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_the_command_with_one_line(tiny_path, tmp_path, number, code):
    run = tmp_path / "run"
    endless = ["--data", tiny_path, "--out", run, "--stages", "ser", *SET, "--set", "epochs=1000000"]
    with command(*endless, "--device", "cpu") as process:
        wait_for_line(process, "ser   2/")
        process.send_signal(number)
        process.stdout.read()
        error = process.stderr.read()
    assert process.returncode == code
    assert re.fullmatch(
        rf"crrl-fast: stopped by {number.name} and saved at ser( epoch \d+, step \d+)?: "
        rf"`crrl-fast pretrain --resume {run}` goes on\n",
        error,
    ), error
    assert len(checkpoints_in(run)) >= 1


def test_the_second_signal_stops_at_once(tiny_path, tmp_path, monkeypatch):
    """The first is noted, and gives the signals back to whoever had them."""
    taken = []

    def on_term(number, frame):
        taken.append(number)
        raise SystemExit(3)

    before = signal.signal(signal.SIGTERM, on_term)
    try:
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            step = StageLoop._run_epoch

            def twice(self, on_step, on_skip):
                signal.raise_signal(signal.SIGTERM)
                assert taken == []
                signal.raise_signal(signal.SIGTERM)
                return step(self, on_step, on_skip)

            patch.setattr(StageLoop, "_run_epoch", twice)
            pretrain(tiny_path, tmp_path / "run")
        assert taken == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def say(data, **asked):
    printed = io.StringIO()
    request = PretrainRequest.resolve(data, device="cpu", **asked)
    run = run_pretraining(request, Console(file=printed, width=500))
    return run, printed.getvalue()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tiny_path, tmp_path, monkeypatch, suffix, damage):
    whole = pretrain(tiny_path, tmp_path / "whole", stages=("cml",))
    run = tmp_path / "run"
    interrupted(monkeypatch, tiny_path, run, 10, checkpoint_every=1, stages=("cml",))
    newest = checkpoints_in(run)[-1].with_suffix(suffix)
    content = bytearray(newest.read_bytes())
    content[-20] ^= 1
    newest.write_bytes(content[:-20] if damage == "truncated" else content)
    _, printed = say(None, resume=run)
    assert f"{newest}: truncated or altered" in printed
    assert "the checkpoint before it is used" in printed
    assert "going on from cml epoch 3, step 0" in printed
    assert_same_runs(run, whole.path)


def test_without_a_usable_checkpoint_all_are_named(tiny_path, tmp_path, monkeypatch):
    run = tmp_path / "run"
    interrupted(monkeypatch, tiny_path, run, 10, checkpoint_every=1, stages=("cml",))
    damaged = [path.with_suffix(".safetensors") for path in checkpoints_in(run)]
    for path in damaged:
        path.write_bytes(b"x")
    with pytest.raises(CheckpointError) as error:
        crrl_fast.pretrain(resume=run, quiet=True)
    assert len(damaged) == 3
    assert all(str(path) in str(error.value) for path in damaged)
    assert all(path.exists() for path in damaged)


def test_an_altered_teacher_is_noticed(tiny_path, tmp_path, monkeypatch):
    run = tmp_path / "run"
    interrupted(monkeypatch, tiny_path, run, 15, keep=1)
    teacher = run / "cml.safetensors"
    content = bytearray(teacher.read_bytes())
    content[-1] ^= 1
    teacher.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cml\.safetensors: altered"):
        crrl_fast.pretrain(resume=run, quiet=True)


def test_a_run_without_checkpoints_starts_anew_and_a_finished_one_is_left_alone(tiny_path, tmp_path, monkeypatch):
    run = tmp_path / "run"
    whole = pretrain(tiny_path, run, stages=("ser",))
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    _, printed = say(None, resume=run)
    assert f"{run}: has finished already, there is nothing left to train" in printed
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path != run} == {
        path: time_ for path, time_ in before.items() if path != run
    }
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "config.json").write_bytes((run / "config.json").read_bytes())
    _, printed = say(None, resume=begun)
    assert "going on from the beginning, for it has no checkpoint" in printed
    assert_same_runs(begun, whole.path)


@pytest.mark.parametrize("steps", ["none", "center,rotate,downsample=60", "center,turn"])
def test_a_run_of_before_a_field_was_there_goes_on_bit_by_bit(tiny_store, tmp_path, monkeypatch, steps):
    """Within an epoch too: what a recipe did not say, it did as is the default now, but turned no clip itself."""
    store = tiny_store.processed(parse_steps(steps)).hashed()
    store.save(tmp_path / "store.safetensors")
    data, asked = tmp_path / "store.safetensors", {"stages": ("ser",), "align": "none"}
    whole = pretrain(data, tmp_path / "whole", **asked)
    run = tmp_path / "run"
    interrupted(monkeypatch, data, run, 6, **asked)
    (path,) = checkpoints_in(run)
    checkpoint = read_checkpoint(path)
    config = {name: value for name, value in checkpoint.config.items() if name != "training_clips"}
    config["recipe"] = {name: value for name, value in config["recipe"].items() if name not in ADDED}
    assert config["recipe"]
    remove_checkpoint(path)
    write_checkpoint(run, 1, replace(checkpoint, config=config))
    (run / "config.json").write_text(json.dumps(config))
    assert RunFolder.open(run).config.recipe.align == ("rotate" if "rotate" in steps else "none")
    begun = RunFolder.open(run)
    crrl_fast.pretrain(resume=run, quiet=True)
    assert_same_runs(run, whole.path)
    arrays = random_walks(5, seed=2)
    features = [crrl_fast.load(path, device="cpu").encode(arrays) for path in (run, whole.path)]
    np.testing.assert_array_equal(*features)
    (run / "config.json").write_text(json.dumps(config))
    evaluated = [RunEvaluation.open(each).clips.store for each in (begun, RunFolder.open(run), whole)]
    assert all(torch.equal(clips.frames, store.frames) for clips in evaluated)


DIFFERENCES = [
    ({"lr": 0.2}, "lr 0.1, now 0.2"),
    ({"recipe": "fast"}, "precision fp32, now bf16"),
    ({"seed": 4}, "seed 0, now 4"),
    ({"stages": ("ser", "cml")}, "stages cml,inf, now ser,cml"),
    ({"split": "other"}, "split xview, now other"),
    ({"lr_milestones": (1, 2), "hidden_size": 9}, "hidden_size 8, now 9"),
]


def other_store(path):
    store = Store.from_arrays(random_walks(30, seed=5), camera=[1] * 30, layout="kinect20")
    store.save(path)
    return path


@pytest.fixture
def two_splits(tiny_store, tmp_path):
    store = Store.from_arrays(
        [tiny_store.clip(i)[:, 0].numpy() for i in range(24)],
        camera=[i // 8 + 1 for i in range(24)],
        layout="kinect20",
        splits={"xview": Split("camera", (1, 2)), "other": Split("camera", (1, 3))},
    )
    store.save(tmp_path / "two.safetensors")
    return tmp_path / "two.safetensors"


@pytest.mark.parametrize(("asked", "message"), DIFFERENCES)
def test_what_was_started_otherwise_is_refused(two_splits, tmp_path, monkeypatch, asked, message):
    run = tmp_path / "run"
    interrupted(monkeypatch, two_splits, run, 3)
    config = (run / "config.json").read_bytes()
    with pytest.raises(ConfigError, match=message) as error:
        crrl_fast.pretrain(resume=run, quiet=True, **asked)
    assert "--force" in str(error.value)
    assert (run / "config.json").read_bytes() == config
    with pytest.raises(ConfigError, match=f"{run}: was started otherwise: .*{message}"):
        pretrain(two_splits, run, **{**asked, "resume": "auto"})


def test_other_data_is_refused_and_forced(two_splits, tmp_path, monkeypatch):
    run = tmp_path / "run"
    interrupted(monkeypatch, two_splits, run, 6, stages=("cml",))
    other = other_store(tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="started otherwise: data [0-9a-f]{12}, now [0-9a-f]{12}"):
        crrl_fast.pretrain(other, resume=run, quiet=True)
    forced = crrl_fast.pretrain(other, resume=run, quiet=True, force=True)
    assert Path(forced.config.data) == other
    assert json.loads((run / "config.json").read_text())["data_sha256"] == Store.open(other).info.sha256
    assert [row["epoch"] for row in metrics(run)] == [1, 2, 3]


def test_a_finished_run_is_forced_to_go_on_for_more_epochs_and_stages(tiny_path, tmp_path):
    run = tmp_path / "run"
    pretrain(tiny_path, run, stages=("cml",))
    longer = {"resume": run, "quiet": True, "force": True}
    crrl_fast.pretrain(**longer, epochs=5)
    assert [row["epoch"] for row in metrics(run)] == [1, 2, 3, 4, 5]
    crrl_fast.pretrain(**longer, stages=("cml", "inf"))
    assert [(row["stage"], row["epoch"]) for row in metrics(run)][-3:] == [("inf", 3), ("inf", 4), ("inf", 5)]
    assert (run / "inf.safetensors").exists()
    with pytest.raises(ConfigError, match="its checkpoint is of stage 'inf', which is not asked for"):
        crrl_fast.pretrain(**longer, stages=("ser",))
    with pytest.raises(CheckpointError, match=r"cml\.safetensors: not usable, and later stages need it"):
        crrl_fast.pretrain(**longer, hidden_size=4, epochs=6)


def test_sizes_that_do_not_fit_cannot_be_forced(tiny_path, tmp_path, monkeypatch):
    run = tmp_path / "run"
    interrupted(monkeypatch, tiny_path, run, 6)
    with pytest.raises(CheckpointError, match="stage cml: the checkpoint does not fit"):
        crrl_fast.pretrain(resume=run, quiet=True, force=True, hidden_size=4)


def test_auto_finds_the_newest_run_of_the_same_kind(tiny_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = {**SMALL, "stages": ("ser",), "quiet": True, "device": "cpu"}
    with monkeypatch.context() as patch, pytest.raises(Interruption):
        stop_after(patch, 3)
        crrl_fast.pretrain(tiny_path, resume="auto", **asked)
    (begun,) = Path("runs").iterdir()
    other = crrl_fast.pretrain(tiny_path, resume="auto", **asked, seed=1)
    assert other.path != begun
    (Path("runs") / "broken").mkdir()
    (Path("runs") / "broken/config.json").write_text("{")
    assert crrl_fast.pretrain(tiny_path, resume="auto", **asked).path == begun
    assert len(metrics(begun)) == 3
    assert crrl_fast.pretrain(tiny_path, resume="auto", **asked).path == begun  # it has finished
    assert crrl_fast.pretrain(tiny_path, **asked).path not in (begun, other.path)


def test_a_store_in_memory_goes_on_from_the_runs_own(tiny_store, tmp_path, monkeypatch):
    whole = pretrain(tiny_store, tmp_path / "whole")
    interrupted(monkeypatch, tiny_store, tmp_path / "run", 6)
    crrl_fast.pretrain(resume=tmp_path / "run", quiet=True)
    assert_same_runs(tmp_path / "run", whole.path)
    interrupted(monkeypatch, tiny_store, tmp_path / "again", 6)
    pretrain(tiny_store, tmp_path / "again", resume="auto")
    assert_same_runs(tmp_path / "again", whole.path)


def test_a_run_that_another_job_writes_is_refused(tiny_path, tmp_path, monkeypatch):
    run = tmp_path / "run"
    interrupted(monkeypatch, tiny_path, run, 3)
    with folder_lock(run):
        for asked in ({"resume": run}, {"data": tiny_path, "out": run}):
            with pytest.raises(ConfigError, match=f"another job is writing it .process {os.getpid()} on "):
                crrl_fast.pretrain(**asked, quiet=True)
    new = tmp_path / "new"
    new.mkdir()
    with folder_lock(new), pytest.raises(ConfigError, match="another job is writing it"):
        pretrain(tiny_path, new)
    assert not (new / "config.json").exists()


def test_the_command_line_resumes(crrl, tiny_path, tmp_path, monkeypatch):
    whole = pretrain(tiny_path, tmp_path / "whole", stages=("cml",))
    start = ["pretrain", "--data", tiny_path, "--out", "run", "--stages", "cml", *SET]
    with monkeypatch.context() as patch:
        stop_after(patch, 6, signal.SIGINT)
        code, _, error = crrl(*start, "--checkpoint-every", 1, "--keep", 2)
    assert code == 130
    assert error == (
        "crrl-fast: stopped by SIGINT and saved at cml epoch 2, step 2: `crrl-fast pretrain --resume run` goes on\n"
    )
    one_line_error(crrl("pretrain", "--resume", "run", "--set", "lr=3"), "run: was started otherwise: lr 0.1, now 3.0")
    one_line_error(crrl("pretrain", "--resume", "absent"), "absent: not a run folder")
    one_line_error(crrl("pretrain", "--resume", "run", "--out", "other"), "--out other", "run to go on with is run")
    one_line_error(crrl("pretrain", "--resume", "auto"), "--data")
    one_line_error(crrl(*start), "run: exists and is not empty", "--resume run")
    one_line_error(crrl(*start, "--resume", "auto", "--keep", 0), "keep must be at least 1")
    code, out, _ = crrl(*start, "--resume", "auto", "--checkpoint-minutes", 0.0)
    assert code == 0
    assert "run: going on from cml epoch 2, step 2" in out
    assert_same_runs(tmp_path / "run", whole.path)
    code, out, _ = crrl("pretrain", "--resume", "run")
    assert (code, out.splitlines()[0]) == (0, "run: has finished already, there is nothing left to train")
