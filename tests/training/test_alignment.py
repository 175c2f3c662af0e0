"""How a run turns its clips: the same bits whoever turned them, and a word where a store lacks what is asked for."""

import io

import numpy as np
import pytest
import torch
from rich.console import Console

from crrl_fast import Store
from crrl_fast.data.preprocess import DEFAULT_STEPS, parse_steps
from crrl_fast.evaluation import RunEvaluation
from crrl_fast.training.pretrain import pretrain as run_pretraining
from crrl_fast.training.request import PretrainRequest
from tests.conftest import one_line_error, random_walks
from tests.training.runs import SMALL, assert_same_runs, pretrain

STEPS_BEFORE = "center,rotate,downsample=60"
GRAVITY = "gravity is lost in this store"


def store_of(steps):
    return Store.from_arrays(random_walks(12, longest=130), layout="kinect20", steps=parse_steps(steps))


def said(tmp_path, steps, **recipe):
    """Return what a run prints."""
    asked = {"out": tmp_path / "run", "device": "cpu", "stages": ("ser",), "overrides": {**SMALL, **recipe}}
    printed = io.StringIO()
    run_pretraining(PretrainRequest.resolve(store_of(steps), **asked), Console(file=printed, width=300))
    return printed.getvalue()


def test_paper_trains_the_same_bits_whether_prepare_has_rotated_or_not(tmp_path):
    stores = [
        store_of(STEPS_BEFORE),
        Store.from_arrays(random_walks(12, longest=130), layout="kinect20", steps=DEFAULT_STEPS),
    ]
    assert not torch.equal(stores[0].frames, stores[1].frames)
    assert max(stores[0].lengths) == 60
    before, now = (pretrain(store, tmp_path / str(i), stages=("cml", "inf")) for i, store in enumerate(stores))
    assert_same_runs(now.path, before.path)


@pytest.mark.parametrize(
    ("align", "prepared"),
    [("rotate", STEPS_BEFORE), ("turn", "center,turn,downsample=60"), ("none", "center,downsample=60")],
)
def test_a_run_trains_on_what_prepare_would_have_made(tmp_path, align, prepared):
    run = pretrain(store_of("center,downsample=60"), tmp_path / align, stages=("ser",), epochs=1, align=align)
    same = pretrain(store_of(prepared), tmp_path / "same", stages=("ser",), epochs=1, align="none")
    assert_same_runs(run.path, same.path)
    assert run.config.recipe.align == align


def test_rotate_does_not_depend_on_an_earlier_turn():
    turned, not_turned = (store_of(f"{steps},downsample=60") for steps in ("center,turn", "center"))
    steps = parse_steps("rotate")
    np.testing.assert_allclose(turned.processed(steps).frames, not_turned.processed(steps).frames, atol=1e-5)


@pytest.mark.parametrize("steps", [STEPS_BEFORE, "center,rotate,turn,downsample=60"])
def test_turn_says_where_gravity_is_lost(tmp_path, steps):
    printed = said(tmp_path, steps, align="turn")
    lines = [line for line in printed.splitlines() if GRAVITY in line]
    expected = f"arrays: {GRAVITY} (preprocessed with {steps}): prepare it again without rotate"
    assert [line.partition(" to get")[0] for line in lines] == [expected]


@pytest.mark.parametrize(
    ("steps", "align"),
    [(STEPS_BEFORE, "rotate"), (STEPS_BEFORE, "none"), ("center,turn", "rotate"), ("center", "turn")],
)
def test_nothing_is_said_where_nothing_is_lost(tmp_path, steps, align):
    assert GRAVITY not in said(tmp_path, steps, align=align)


def test_what_is_no_pose_is_not_turned(crrl, tmp_path):
    for name, steps in (("still", "center,bone"), ("aligned", "center,rotate,motion")):
        store_of(steps).save(tmp_path / f"{name}.safetensors")
    asked = ["--stages", "ser", "--device", "cpu", "--set", "epochs=1", "--set", "hidden_size=4", "--out"]
    one_line_error(
        crrl("pretrain", "--data", "still.safetensors", *asked, "still"),
        "was preprocessed with center,bone, so that align=rotate finds no pose in it",
        "or set align=none",
    )
    assert not (tmp_path / "still").exists()
    assert crrl("pretrain", "--data", "still.safetensors", *asked, "still", "--set", "align=none")[0] == 0
    assert crrl("pretrain", "--data", "aligned.safetensors", *asked, "aligned")[0] == 0


def test_evaluation_turns_the_clips_as_the_run_did(tiny_store, tmp_path):
    run = pretrain(tiny_store, tmp_path / "run", stages=("ser",), epochs=1, align="turn")
    expected = tiny_store.processed(parse_steps("turn"))
    assert torch.equal(RunEvaluation.open(run).clips.store.frames, expected.frames)
    assert not torch.equal(expected.frames, tiny_store.frames)
