import json
import math
from dataclasses import asdict, replace

import pytest
import torch

from crrl_fast.benchmark.train import growth, ours, run, workload
from crrl_fast.benchmark.train.growth import measure_growth
from crrl_fast.benchmark.train.run import run_train_benchmark
from crrl_fast.errors import DataError


def numbers(value):
    """Yield every number in a JSON value."""
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def test_a_whole_run_and_its_way_through_json(tiny_path, plan, monkeypatch):
    monkeypatch.setattr(workload, "NTU60_TRAINING_CLIPS", 40)
    monkeypatch.setattr(growth, "SIZES", (8, 40))
    seen = []
    record = run_train_benchmark(replace(plan, growth=True), [str(tiny_path), "ntu60-size"], seen.append)
    assert record.disagreements == ()
    assert [curve.stage for curve in record.curves] == ["ser", "cml", "inf"]
    assert {curve.data for curve in record.curves} == {str(tiny_path)}
    assert [data.name for data in record.data] == [str(tiny_path), "ntu60-size"]
    tiny, generated = record.data
    assert (tiny.clips, tiny.width, tiny.longest) == (16, 60, 12)
    assert (generated.clips, generated.width) == (40, 150)
    for data in record.data:
        assert [stage.stage for stage in data.stages] == ["ser", "cml", "inf"]
        assert len(data.pipeline) == len(data.preparation) == 3
        assert 0 < data.drawn_clips <= data.clips
    assert [size.clips for size in record.growth] == [8, 40]
    assert set(record.gemm_flops) == {"float32", "bfloat16"}
    assert record.threads == torch.get_num_threads()
    assert len(seen) == 3 + 2 * 3 + 3

    text = json.dumps(asdict(record), allow_nan=False)
    loaded = json.loads(text)
    assert json.dumps(loaded) == text
    assert all(math.isfinite(number) for number in numbers(loaded))
    assert loaded["recipe"]["hidden_size"] == 8
    assert loaded["curves"][0]["stock"] == list(record.curves[0].stock)
    assert loaded["versions"]["torch"] == torch.__version__


def test_what_trains_otherwise_is_not_timed(tiny_path, plan, monkeypatch):
    class Wrong(ours.OurTraining):
        def __init__(self, module, clips, recipe):
            super().__init__(module, clips, recipe.with_overrides({"lr": recipe.lr * 1.01}))

    monkeypatch.setattr(ours, "OurTraining", Wrong)
    record = run_train_benchmark(replace(plan, growth=True), [str(tiny_path), str(tiny_path)])
    assert [curve.stage for curve in record.disagreements] == ["ser", "cml", "inf"]
    assert len(record.curves) == 3
    assert (record.data, record.growth, record.gemm_flops) == ((), (), {})
    json.dumps(asdict(record), allow_nan=False)


def test_curves_can_be_left_out(tiny_path, plan):
    record = run_train_benchmark(replace(plan, stages=("cml",), curve_steps=0), [str(tiny_path)])
    assert record.curves == ()
    assert record.data[0].pipeline == ()
    assert len(record.data) == 1


def test_a_missing_store_ends_before_anything_is_measured(tiny_path, plan, monkeypatch):
    monkeypatch.setattr(run, "GemmRate", None)
    with pytest.raises(DataError, match="no data set 'nothing'"):
        run_train_benchmark(plan, [str(tiny_path), "nothing"])


def test_growth_interleaves_sizes_and_counts_by_valid_frames(plan, monkeypatch):
    monkeypatch.setattr(growth, "SIZES", (8, 16, 40))
    took = []

    def timed(work, device):
        work()
        took.append(0)
        return None, 1.5

    monkeypatch.setattr(growth, "timed", timed)
    records = measure_growth(plan, lambda line: None)
    assert len(took) == plan.rounds * 3 + 3
    assert [record.clips for record in records] == [8, 16, 40]
    for record in records:
        # 1.5 s a round of 2 steps of 4 clips; all clips have 12 frames here, the most that the recipe leaves.
        assert record.clips_per_second.median == pytest.approx(8 / 1.5)
        assert record.relative.median == pytest.approx(1)
        assert record.shuffle_seconds == 1.5
        assert record.store_bytes == record.clips * 12 * 150 * 4
