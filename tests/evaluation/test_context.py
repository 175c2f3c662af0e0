from dataclasses import replace

import pytest
import torch

from crrl_fast.data.info import Split
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError, DataError
from crrl_fast.evaluation import LabelledSplit, RunEvaluation, extract_features
from tests.conftest import random_walks
from tests.evaluation.runs import make_run


def store_of(labels, camera, **options):
    options = {"splits": {"x": Split("camera", (1,))}, "class_names": ["sit", "stand", "wave"], **options}
    return Store.from_arrays(random_walks(len(labels)), labels=labels, camera=camera, layout="kinect20", **options)


def test_clips_without_a_label_are_left_out_and_the_others_keep_their_order(cpu):
    store = store_of([0, -1, 1, 0, 1, -1], [1, 1, 1, 2, 2, 2])
    clips = LabelledSplit(store, None, "store", cpu)
    assert (clips.split, clips.class_names, clips.num_classes) == ("x", ("sit", "stand", "wave"), 3)
    assert (clips.train.labels.tolist(), clips.test.labels.tolist()) == ([0, 1], [0, 1])
    batch = clips.test.batch(torch.tensor([1]))
    assert torch.equal(batch.coords[0], store.clip(4).flatten(1))


@pytest.mark.parametrize(
    ("store", "split", "message"),
    [
        (lambda: store_of([-1] * 4, [1, 1, 2, 2]), None, "s.st: no clip has a label"),
        (lambda: store_of([0, 1, 0, 1], [1, 1, 2, 2], splits={}), None, "s.st: the store defines no split"),
        (lambda: store_of([0, 1, 0, 1], [1, 1, 2, 2]), "y", "no split 'y': it defines x"),
        (lambda: store_of([0, 1, 0, 1], [1, 1, 1, 1]), None, "s.st: split 'x' puts no clip into its test part"),
        (lambda: store_of([-1, -1, 0, 1], [1, 1, 2, 2]), None, "the training part of split 'x' has no labelled clip"),
        (lambda: store_of([0, 1, -1, -1], [1, 1, 2, 2]), None, "the test part of split 'x' has no labelled clip"),
        (
            lambda: store_of([0, 0, 1, 1], [1, 1, 2, 2]),
            None,
            "s.st: class 'stand' has 2 test clips but no training clip in split 'x': ",
        ),
        (lambda: store_of([0, 0, 1, 2], [1, 1, 2, 2]), None, r"class 'stand' has 1 test clip .* \(and so 1 more\)"),
    ],
)
def test_what_cannot_be_evaluated_on_is_refused(store, split, message, cpu):
    with pytest.raises(ConfigError, match=message) as error:
        LabelledSplit(store(), split, "s.st", cpu)
    assert "\n" not in str(error.value)


def test_a_class_without_test_clips_is_no_hindrance(cpu):
    clips = LabelledSplit(store_of([0, 1, 2, 0, 1], [1, 1, 1, 2, 2]), None, "store", cpu)
    assert clips.test.labels.tolist() == [0, 1]


def test_a_run_is_evaluated_on_its_own_store_split_and_stream(tiny_path, tiny_store, tmp_path):
    run = make_run(tmp_path / "run", tiny_path, stream="bone", split="xview", stages=("cml", "ser"))
    evaluation = RunEvaluation.open(run)
    assert (evaluation.encoder, evaluation.stream, evaluation.clips.split) == ("cml", "bone", "xview")
    assert evaluation.clips.store.info.preprocessing[-1]["step"] == "bone"
    features = evaluation.features
    assert features is evaluation.features
    assert (len(features.train), len(features.test), features.num_classes) == (16, 8, 3)
    assert features.test_labels.tolist() == tiny_store.labels[16:].tolist()
    expected = extract_features(run.load_encoder("cml"), evaluation.clips.test)
    torch.testing.assert_close(features.test, expected)


def test_every_encoder_that_is_loaded_is_a_copy_of_its_own(tiny_path, tmp_path):
    evaluation = RunEvaluation.open(make_run(tmp_path / "run", tiny_path))
    first, second = evaluation.load_encoder(), evaluation.load_encoder()
    with torch.no_grad():
        next(first.parameters()).zero_()
    assert not torch.equal(next(first.parameters()), next(second.parameters()))


def test_concat_puts_the_features_of_ser_and_cml_side_by_side(tiny_path, tmp_path):
    run = make_run(tmp_path / "run", tiny_path, stages=("ser", "cml"))
    parts = [RunEvaluation.open(run, name).features.test for name in ("ser", "cml")]
    torch.testing.assert_close(RunEvaluation.open(run, "concat").features.test, torch.cat(parts, dim=1))


def test_an_encoder_that_is_missing_shows_before_a_store_that_is(tiny_path, tmp_path):
    run = make_run(tmp_path / "run", tiny_path)
    tiny_path.unlink()
    with pytest.raises(ConfigError, match=r"stage 'ser' has no checkpoint here; finished stages: cml"):
        RunEvaluation.open(run, "ser")
    with pytest.raises(DataError, match="no such file"):
        RunEvaluation.open(run)


def test_another_store_is_refused(tiny_store, tiny_path, tmp_path):
    run = make_run(tmp_path / "run", tiny_path)
    other = tmp_path / "other.safetensors"
    replace(tiny_store, frames=2 * tiny_store.frames).save(other)
    with pytest.raises(ConfigError, match=f"{other}: not the store that .*run was trained on"):
        RunEvaluation.open(run, data=str(other))
