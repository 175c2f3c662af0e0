import json
from dataclasses import asdict

import pytest
import torch

from crrl_fast.benchmark import harness, run_ops_benchmark
from crrl_fast.benchmark.cases import motion_diff
from crrl_fast.errors import CrrlError


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Shrink the inputs, take single calls, and compile with a backend that costs nothing."""
    monkeypatch.setattr(harness, "SAMPLE_SECONDS", 0.0)
    monkeypatch.setattr(motion_diff, "TRAINING_BATCH", (3, 5))
    monkeypatch.setattr(motion_diff, "LARGE_BATCH", {"cpu": (4, 6)})
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **options: compiled(f, **{**options, "backend": "eager"}))


def test_motion_diff_stands_beside_its_baselines():
    record = run_ops_benchmark("cpu", ops=["motion_diff"], rounds=2)
    assert {case.op for case in record.cases} == {"motion_diff"}
    for case in record.cases:
        names = [m.name for m in case.measurements]
        assert names == ["ours", "PyTorch eager", "torch.compile", "copy of the bytes"]
        assert all(m.error is not None and m.error <= case.tolerance for m in case.measurements[:3])


def test_the_record_says_under_which_circumstances():
    seen = []
    record = run_ops_benchmark("cpu", ops=["motion_diff"], rounds=2, on_case=seen.append)
    assert tuple(seen) == record.cases
    loaded = json.loads(json.dumps(asdict(record)))
    assert loaded["versions"]["torch"] == torch.__version__
    assert "commit" in loaded["versions"]
    assert loaded["threads"] == torch.get_num_threads()
    assert len(loaded["cases"]) == len(record.cases)


def test_what_cannot_be_measured_is_a_users_error():
    with pytest.raises(CrrlError, match="unknown op 'x'; there are motion_diff"):
        run_ops_benchmark("cpu", ops=["x"])
    with pytest.raises(CrrlError, match="no compiled ops for xpu"):
        run_ops_benchmark("xpu")
