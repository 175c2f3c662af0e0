import pytest
import torch

from crrl_fast.benchmark.train import ours, preparation
from crrl_fast.benchmark.train.preparation import prepare
from crrl_fast.benchmark.train.record import OURS, OURS_BF16, STOCK
from crrl_fast.benchmark.train.workload import workload


@pytest.fixture
def partly(tiny_store, plan):
    """Return a workload that draws 8 of 16 clips."""
    return workload("tiny", tiny_store, plan.recipe, 2, seed=0)


def test_what_is_done_clip_by_clip_is_scaled_to_all_clips(partly, plan, monkeypatch):
    monkeypatch.setattr(preparation, "timed", lambda run, device: (run(), 3.0))
    prepared = prepare(partly, plan)
    share = partly.drawn_share
    assert 0 < share < 1
    stock, *both = prepared.records
    assert stock.name == STOCK
    assert stock.seconds == {"host arrays": 3.0 / share}
    assert stock.held_bytes == pytest.approx(4 * 4 * 60 * int(partly.lengths.sum()), abs=1)
    for record, name in zip(both, (OURS, OURS_BF16), strict=True):
        assert record.name == name
        assert record.seconds == {"resident frames": 3.0, "teacher's features": 3.0 / share}
        assert record.held_bytes == partly.store.frames.nbytes + 4 * 16 * 16


def test_features_are_the_teachers_of_the_clips_that_are_drawn(partly, plan):
    prepared = prepare(partly, plan)
    everyone = ours.cached_features(prepared.teacher, prepared.clips)
    torch.testing.assert_close(prepared.features[partly.drawn], everyone[partly.drawn], rtol=0, atol=1e-6)
    others = torch.ones(16, dtype=torch.bool)
    others[partly.drawn] = False
    assert not prepared.features[others].any()


def test_without_inf_there_is_no_teacher_to_run(partly, plan):
    from dataclasses import replace

    prepared = prepare(partly, replace(plan, stages=("cml",)))
    assert prepared.features is None
    assert set(prepared.records[1].seconds) == {"resident frames"}
    assert prepared.records[1].held_bytes == partly.store.frames.nbytes
