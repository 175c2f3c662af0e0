import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from crrl_fast.config import Recipe
from crrl_fast.data.frame_format import FrameFormat
from crrl_fast.data.info import Split
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError, TrainingError
from crrl_fast.evaluation import LinearProbe, NearestNeighbours, RunEvaluation, evaluate, extract_features
from crrl_fast.models import MotionEncoder
from crrl_fast.run import RunFolder
from crrl_fast.training.pretrain import pretrain
from crrl_fast.training.request import STAGES, PretrainRequest
from tests.conftest import random_walks

SMALL = Recipe(epochs=2, batch_size=6, hidden_size=8, queue_size=9)


def request(data, out: Path, **changes) -> PretrainRequest:
    values = {
        "data": data if isinstance(data, Store) else str(data),
        "split": None,
        "recipe_name": "paper",
        "recipe": SMALL,
        "stages": ("cml", "inf"),
        "out": out,
        "seed": 0,
        "device": torch.device("cpu"),
        "probe_every": 2,
        **changes,
    }
    return PretrainRequest(**values)


def run(*args, **changes):
    printed = io.StringIO()
    folder = pretrain(request(*args, **changes), Console(file=printed, width=200))
    return folder, printed.getvalue()


def records(folder):
    return [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]


def without_time(rows):
    return [{k: v for k, v in row.items() if k not in ("seconds", "clips_per_second")} for row in rows]


def test_a_run_leaves_everything_that_describes_it(tiny_path, tiny_store, tmp_path):
    folder, printed = run(tiny_path, tmp_path / "run", stages=("ser", "cml", "inf"))
    rows = records(folder)
    assert [(row["stage"], row["epoch"]) for row in rows] == [(s, e) for s in ("ser", "cml", "inf") for e in (1, 2)]
    assert set(rows[-1]) == {
        "stage", "epoch", "loss", "forward", "reverse", "distill", "lr", "seconds", "clips_per_second", "knn",
    }  # fmt: skip
    assert "knn" not in rows[0]
    assert rows[-1]["loss"] == pytest.approx(rows[-1]["forward"] + rows[-1]["reverse"] + 0.1 * rows[-1]["distill"])
    assert {file.name for file in folder.path.glob("*.safetensors")} == {
        "ser.safetensors", "cml.safetensors", "inf.safetensors",
    }  # fmt: skip
    assert list(folder.path.glob("events.out.tfevents.*"))
    reopened = RunFolder.open(folder.path)
    assert reopened.config == folder.config
    assert reopened.config.recipe == SMALL
    assert reopened.config.data_sha256 == tiny_store.info.sha256
    assert reopened.config.versions["torch"] == torch.__version__
    assert "tiny: 16 training clips, 8 test clips" in printed
    assert "inf   2/2" in printed
    assert "clips/s  0:00:00 left" in printed


def test_the_same_seed_gives_the_same_bits(tiny_path, tmp_path):
    one, _ = run(tiny_path, tmp_path / "one")
    two, _ = run(tiny_path, tmp_path / "two")
    other, _ = run(tiny_path, tmp_path / "other", seed=1)
    assert without_time(records(one)) == without_time(records(two)) != without_time(records(other))
    for stage in ("cml", "inf"):
        first, second = (load_file(folder.path / f"{stage}.safetensors") for folder in (one, two))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_stage_does_not_depend_on_which_others_run_or_on_the_probe(tiny_path, tmp_path):
    alone, _ = run(tiny_path, tmp_path / "alone", stages=("cml",), probe_every=0)
    after, _ = run(tiny_path, tmp_path / "after", stages=("ser", "cml"), probe_every=1)
    first, second = (load_file(folder.path / "cml.safetensors") for folder in (alone, after))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_teacher_and_probes_encode_each_clip_once(tiny_path, tmp_path, monkeypatch, cpu):
    encoded, forward = [], MotionEncoder.forward

    def counted(self, frames, lengths):
        encoded.append((self.training, len(frames)))
        return forward(self, frames, lengths)

    monkeypatch.setattr(MotionEncoder, "forward", counted)
    folder, _ = run(tiny_path, tmp_path / "run", stages=("cml", "inf"), probe_every=0)
    contrast, fusion = [6, 6, 6, 6, 4, 4], [6, 6, 4]  # clips of an epoch's batches; query and key in turn
    assert [clips for training, clips in encoded if training] == [*contrast * 2, *fusion * 2]
    assert [clips for training, clips in encoded if not training] == [16]
    encoded.clear()
    evaluation = RunEvaluation.open(folder)
    evaluate(evaluation, LinearProbe(epochs=3))
    evaluate(evaluation, NearestNeighbours())
    assert encoded == [(False, 16), (False, 8)]


def test_joint_encodes_queries_and_keys_once(tiny_path, tmp_path, monkeypatch):
    encoded, forward = [], MotionEncoder.forward

    def counted(self, frames, lengths):
        encoded.append(len(frames))
        return forward(self, frames, lengths)

    monkeypatch.setattr(MotionEncoder, "forward", counted)
    folder, _ = run(tiny_path, tmp_path / "run", stages=("joint",), probe_every=0)
    assert encoded == [6, 6, 6, 6, 4, 4] * 2
    row = records(folder)[-1]
    assert row["loss"] == pytest.approx(row["forward"] + row["reverse"] + row["contrast"])


def test_encoders_come_back_from_disk(tiny_path, tiny_store, tmp_path, cpu):
    from crrl_fast.data.batches import resident_split

    folder, _ = run(tiny_path, tmp_path / "run")
    train, _ = resident_split(tiny_store, None, cpu)
    features = {name: extract_features(folder.load_encoder(name), train) for name in ("cml", "inf", "random")}
    assert not torch.allclose(features["cml"], features["inf"])
    again = extract_features(folder.load_encoder("random"), train)
    assert torch.equal(features["random"], again)
    assert folder.default_encoder() == "inf"


@pytest.mark.parametrize(
    ("stages", "amplitude", "part", "target"),
    [
        (("ser",), 0.5, "loss", 0.8),
        (("cml", "inf"), 4.0, "distill", 0.6),
        (("joint",), 2.0, "forward", 0.8),
    ],
    ids=["reconstruction", "contrast and distillation", "both together"],
)
def test_training_learns_waves(tmp_path, stages, amplitude, part, target):
    """Clips are waves of one shape and many tempos; a loss falls far, and queries find their keys."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 6, (1, 20, 3))
    clips = [amplitude * np.sin(rng.uniform(0.1, 0.5) * np.arange(20)[:, None, None] + phase) for _ in range(32)]
    store = Store.from_arrays(clips, camera=[1] * 28 + [2] * 4, layout="kinect20", splits={"x": Split("camera", (1,))})
    path = tmp_path / "waves.safetensors"
    store.save(path)
    recipe = Recipe(epochs=15, batch_size=4, hidden_size=24, queue_size=16, dropout=0.0, align="none")
    folder, _ = run(path, tmp_path / "run", recipe=recipe, stages=stages)
    last_stage = [row[part] for row in records(folder) if row["stage"] == stages[-1]]
    assert last_stage[-1] < target * last_stage[0], last_stage
    accuracy = [row["accuracy"] for row in records(folder) if "accuracy" in row]
    if stages != ("ser",):
        assert max(accuracy[-3:]) > 0.3, accuracy  # chance: 1 / 17
    assert not any("knn" in row for row in records(folder))  # nothing is labelled, so nothing is probed


def test_clips_are_downsampled_to_max_frames(tiny_path, tmp_path):
    _, printed = run(tiny_path, tmp_path / "run", recipe=SMALL.with_overrides({"max_frames": 4}), stages=("cml",))
    assert "4 frames at most" in printed


def test_bf16_trains_close_to_fp32(tiny_path, tmp_path):
    full, _ = run(tiny_path, tmp_path / "fp32", stages=("ser",))
    half, _ = run(tiny_path, tmp_path / "bf16", stages=("ser",), recipe=SMALL.with_overrides({"precision": "bf16"}))
    a, b = records(full)[-1]["loss"], records(half)[-1]["loss"]
    assert a != b
    assert a == pytest.approx(b, rel=0.02)


def test_length_buckets_see_the_same_clips_in_another_order(tiny_path, tmp_path):
    bucketed = SMALL.with_overrides({"length_buckets": 2})
    one, _ = run(tiny_path, tmp_path / "one", stages=("ser",), recipe=bucketed)
    two, _ = run(tiny_path, tmp_path / "two", stages=("ser",), recipe=bucketed)
    uniform, _ = run(tiny_path, tmp_path / "uniform", stages=("ser",))
    assert without_time(records(one)) == without_time(records(two)) != without_time(records(uniform))
    assert records(one)[0]["loss"] == pytest.approx(records(uniform)[0]["loss"], rel=0.1)


def test_a_run_on_cuda_matches_the_cpu(tiny_path, tiny_store, tmp_path, cuda, cpu):
    from crrl_fast.data.batches import resident_split

    recipe = SMALL.with_overrides({"dropout": 0.0})
    features = {}
    for device in (cpu, cuda):
        folder, _ = run(tiny_path, tmp_path / device.type, recipe=recipe, device=device, stages=STAGES)
        train, _ = resident_split(tiny_store, None, device)
        features[device.type] = [
            extract_features(folder.load_encoder(stage).to(device), train).cpu() for stage in STAGES
        ]
        features[device.type].append(torch.tensor([row["loss"] for row in records(folder)]))
    for on_cpu, on_cuda in zip(features["cpu"], features["cuda"], strict=True):
        torch.testing.assert_close(on_cuda, on_cpu, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": ("mcl",)}, "unknown stage 'mcl'"),
        ({"stages": ()}, "name each stage once"),
        ({"stages": ("cml", "cml")}, "name each stage once"),
        ({"stages": ("inf",)}, "put cml before it"),
        ({"stages": ("inf", "cml")}, "put cml before it"),
        ({"probe_every": -1}, "at least 0, got -1"),
    ],
)
def test_impossible_requests(tiny_path, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        request(tiny_path, tmp_path / "run", **changes)


def test_unusable_run_folders_and_splits_leave_nothing(tiny_path, tmp_path):
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    (occupied / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        run(tiny_path, occupied)
    assert [file.name for file in occupied.iterdir()] == ["notes.txt"]
    with pytest.raises(ConfigError, match="no split 'xsub'"):
        run(tiny_path, tmp_path / "run", split="xsub")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="cannot make the run folder"):
        run(tiny_path, tiny_path / "below-a-file")


def test_divergence_keeps_the_log_and_saves_no_weights(tiny_path, tmp_path):
    wild = SMALL.with_overrides({"lr": 1e30, "clip_grad_norm": 0.0, "epochs": 5})
    with pytest.raises(TrainingError, match="ser: the loss or its gradient is not finite"):
        run(tiny_path, tmp_path / "run", recipe=wild, stages=("ser",))
    assert not list((tmp_path / "run").glob("*.safetensors"))


@pytest.mark.parametrize("content", ["{", "[]", '{"recipe": 3}', '{"stages": []}', None])
def test_damaged_run_folders_are_refused(tiny_path, tmp_path, content):
    folder, _ = run(tiny_path, tmp_path / "run", stages=("cml",))
    config = folder.path / "config.json"
    if content is None:
        config.unlink()
    else:
        config.write_text(content)
    with pytest.raises(ConfigError, match=r"config\.json"):
        RunFolder.open(folder.path)


def test_missing_and_damaged_checkpoints_are_refused(tiny_path, tmp_path):
    folder, _ = run(tiny_path, tmp_path / "run", stages=("cml",))
    with pytest.raises(ConfigError, match="stage 'inf' has no checkpoint here; finished stages: cml"):
        folder.load_encoder("inf")
    checkpoint = folder.path / "cml.safetensors"
    other = RunFolder(folder.path, replace(folder.config, frames=replace(folder.config.frames, bodies=2)))
    with pytest.raises(ConfigError, match="not a usable checkpoint"):
        other.load_encoder("cml")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-10])
    with pytest.raises(ConfigError, match="not a usable checkpoint"):
        folder.load_encoder("cml")
    checkpoint.unlink()
    with pytest.raises(ConfigError, match="no stage has finished"):
        folder.default_encoder()


def test_another_store_than_the_runs_is_refused(tiny_path, tmp_path):
    folder, _ = run(tiny_path, tmp_path / "run", stages=("cml",))
    other = Store.from_arrays(random_walks(5), layout="kinect20")
    with pytest.raises(ConfigError, match="not the store that"):
        folder.check_data(other, Path("other.safetensors"))


def test_the_frame_format_is_recorded_and_read_back_or_taken_from_the_store(tiny_path, tiny_store, tmp_path):
    folder, _ = run(tiny_path, tmp_path / "run", stages=("ser",), recipe=SMALL.with_overrides({"stream": "bone"}))
    expected = FrameFormat.of(tiny_store.info)
    assert RunFolder.open(folder.path).config.frames == expected
    config = json.loads((folder.path / "config.json").read_text())
    del config["frames"]  # as written by earlier versions
    (folder.path / "config.json").write_text(json.dumps(config))
    assert RunFolder.open(folder.path).config.frames == expected


def test_streams_train_on_what_they_say(tiny_path, tmp_path):
    losses = {}
    for stream in ("joint", "motion", "bone"):
        recipe = SMALL.with_overrides({"stream": stream, "epochs": 1})
        folder, _ = run(tiny_path, tmp_path / stream, stages=("ser",), recipe=recipe)
        losses[stream] = records(folder)[0]["loss"]
    assert len(set(losses.values())) == 3


def test_the_concatenation_is_both_encoders_side_by_side(tiny_path, tmp_path):
    folder, _ = run(tiny_path, tmp_path / "run", stages=("ser", "cml"))
    frames, lengths = torch.randn(3, 7, 60), torch.tensor([7, 1, 4])
    both = folder.load_encoder("concat").eval()
    assert both.feature_size == 2 * folder.load_encoder("ser").feature_size
    for i, piece in enumerate(both(frames, lengths)):
        parts = [folder.load_encoder(name).eval()(frames, lengths)[i] for name in ("ser", "cml")]
        torch.testing.assert_close(piece, torch.cat(parts, dim=1), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("fusion", "stages", "encoder", "finished", "otherwise"),
    [
        ("distill", ("cml", "inf"), "inf", "cml", "cml"),
        ("joint", ("joint",), "joint", None, None),
        ("concat", ("ser", "cml"), "concat", "ser", "ser"),
        (None, ("ser", "cml", "joint", "inf"), "inf", "joint", "joint"),
        (None, ("ser", "cml", "joint"), "joint", "ser", "ser"),
    ],
)
def test_the_fusion_chooses_the_encoder_that_a_run_stands_for(
    tiny_path, tmp_path, fusion, stages, encoder, finished, otherwise
):
    folder, _ = run(tiny_path, tmp_path / "run", stages=stages, fusion=fusion, probe_every=0)
    reopened = RunFolder.open(folder.path)
    assert reopened.config == folder.config
    assert reopened.config.fusion == fusion
    assert reopened.default_encoder() == encoder
    for stage in stages:
        if stage != finished:
            (folder.path / f"{stage}.safetensors").unlink()
    if finished is None:
        with pytest.raises(ConfigError, match="no stage has finished"):
            reopened.default_encoder()
    else:
        assert reopened.default_encoder() == otherwise


def test_runs_of_versions_without_fusions_open(tiny_path, tmp_path):
    folder, _ = run(tiny_path, tmp_path / "run", stages=("cml", "inf"), fusion="distill")
    config = json.loads((folder.path / "config.json").read_text())
    del config["fusion"], config["recipe"]["contrast_weight"]
    (folder.path / "config.json").write_text(json.dumps(config))
    reopened = RunFolder.open(folder.path)
    assert (reopened.config.fusion, reopened.config.recipe) == (None, SMALL)
    assert reopened.default_encoder() == "inf"
    (folder.path / "config.json").write_text(json.dumps({**config, "fusion": "early"}))
    with pytest.raises(ConfigError, match="unknown fusion 'early'"):
        RunFolder.open(folder.path)


def test_a_store_in_memory_is_kept_in_the_run_and_moves_with_it(tiny_store, tmp_path):
    folder = pretrain(request(tiny_store, tmp_path / "run"), Console(quiet=True))
    moved = tmp_path / "elsewhere" / "run"
    moved.parent.mkdir()
    expected = evaluate(RunEvaluation.open(RunFolder.open(folder.path)), NearestNeighbours())["accuracy"]
    folder.path.rename(moved)
    reopened = RunFolder.open(moved)
    assert Path(reopened.config.data) == moved / "data/store.safetensors"
    assert torch.equal(Store.open(reopened.config.data).frames, tiny_store.frames)
    assert evaluate(RunEvaluation.open(reopened), NearestNeighbours())["accuracy"] == expected
    assert reopened.default_encoder() == "inf"  # the store is not taken for a stage
