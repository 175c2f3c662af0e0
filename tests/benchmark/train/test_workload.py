import pytest
import torch

from crrl_fast.benchmark.train import workload as module
from crrl_fast.benchmark.train.workload import GENERATED, check_data, default_data, open_store, workload
from crrl_fast.errors import ConfigError, DataError


def test_batches_are_full_and_take_every_clip_once_an_epoch(tiny_store, plan):
    load = workload("tiny", tiny_store, plan.recipe.with_overrides({"batch_size": 5}), 7, seed=0)
    assert load.batches.shape == (7, 5)  # 16 clips: 3 full batches an epoch
    for epoch in (load.batches[:3], load.batches[3:6]):
        assert len(epoch.unique()) == 15
    assert not torch.equal(load.batches[:3], load.batches[3:6])
    assert torch.equal(
        load.batches, workload("tiny", tiny_store, plan.recipe.with_overrides({"batch_size": 5}), 7, 0).batches
    )


def test_rows_are_the_same_clips_among_those_drawn(tiny_store, plan):
    load = workload("tiny", tiny_store, plan.recipe, 2, seed=0)
    assert len(load.drawn) == 8
    assert torch.equal(load.drawn[load.rows], load.batches)
    frames = tiny_store.lengths[load.index]
    assert load.drawn_share == pytest.approx(float(frames[load.batches].sum() / frames.sum()))
    assert load.ragged(1).clips == 4
    assert load.ragged(1).frames == int(frames[load.batches[1]].sum())


def test_fewer_clips_than_a_batch_are_a_users_error(tiny_store, plan):
    with pytest.raises(ConfigError, match="tiny: 16 training clips make no batch of 17"):
        workload("tiny", tiny_store, plan.recipe.with_overrides({"batch_size": 17}), 1, seed=0)


def test_ucla_is_measured_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("CRRL_DATA", str(tmp_path))
    assert default_data() == ["demo", "ntu60-size"]
    (tmp_path / "ucla.safetensors").touch()
    assert default_data() == ["ucla", "demo", "ntu60-size"]


def test_stores_are_opened_generated_or_missed_before_anything_is_measured(tiny_path, plan, monkeypatch):
    monkeypatch.setattr(module, "NTU60_TRAINING_CLIPS", 30)
    check_data([str(tiny_path), GENERATED])
    with pytest.raises(DataError, match="no data set 'nothing'"):
        check_data([str(tiny_path), "nothing"])
    assert open_store(str(tiny_path), plan.recipe.with_overrides({"max_frames": 5}), 0).lengths.max() == 5
    generated = open_store(GENERATED, plan.recipe, 0)
    assert (len(generated), int(generated.lengths.max())) == (30, 12)
