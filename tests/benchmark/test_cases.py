import json
from dataclasses import asdict

import pytest
import torch

from crrl_fast.benchmark import harness, run_ops_benchmark
from crrl_fast.benchmark.cases import info_nce, motion_diff, skeleton_views
from crrl_fast.errors import CrrlError


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Shrink the inputs, take single calls, and compile with a backend that costs nothing."""
    monkeypatch.setattr(harness, "SAMPLE_SECONDS", 0.0)
    monkeypatch.setattr(motion_diff, "TRAINING_BATCH", (3, 5))
    monkeypatch.setattr(motion_diff, "LARGE_BATCH", {"cpu": (4, 6)})
    monkeypatch.setattr(info_nce, "SHAPES", (info_nce.Shape(3, 8, 20), info_nce.Shape(2, 4, 6)))
    monkeypatch.setattr(skeleton_views, "BATCHES", {"cpu": (2,)})
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **options: compiled(f, **{**options, "backend": "eager"}))


def test_motion_diff_stands_beside_its_baselines():
    record = run_ops_benchmark("cpu", ops=["motion_diff"], rounds=2)
    assert {case.op for case in record.cases} == {"motion_diff"}
    for case in record.cases:
        names = [m.name for m in case.measurements]
        assert names == ["ours", "PyTorch eager", "torch.compile", "copy of the bytes"]
        assert all(m.error is not None and m.error <= case.tolerance for m in case.measurements[:3])


def test_queue_info_nce_stands_beside_its_baselines():
    record = run_ops_benchmark("cpu", ops=["queue_info_nce"], rounds=2)
    assert [case.case for case in record.cases[:3]] == [
        "forward (B=3, D=8, K=20) float32 queue",
        "forward+backward (B=3, D=8, K=20) float32 queue",
        "forward+backward (B=2, D=4, K=6) float32 queue",
    ]
    assert len(record.cases) == 6
    for case in record.cases:
        *computing, yardstick = case.measurements
        names = ["ours", "PyTorch eager", "torch.compile"]
        if case.case.endswith("bfloat16 queue"):
            names.append("PyTorch eager, all bfloat16")
        assert [m.name for m in computing] == names
        assert yardstick.name == ("2 matrix products" if "backward" in case.case else "1 matrix product")
        assert all(m.error is not None and m.error <= case.tolerance for m in computing)


def test_the_products_of_info_nce_are_those_of_its_loss():
    inputs = info_nce.draw(info_nce.Shape(3, 8, 20), torch.device("cpu"))
    (logits,) = info_nce.matrix_products(inputs, backward=False)()
    assert torch.equal(logits, inputs.query @ inputs.queue.T)
    (summed,) = info_nce.matrix_products(inputs, backward=True)()
    assert torch.equal(summed, inputs.query @ inputs.queue.T @ inputs.queue)


def test_naive_bfloat16_keeps_its_logits_in_bfloat16():
    (case,) = [case for case in info_nce.cases(torch.device("cpu")) if case.name.startswith("forward (B=3")][1:]
    (naive,) = [contender for contender in case.contenders if "all bfloat16" in contender.name]
    (loss,) = naive.run()
    assert loss.dtype == torch.bfloat16


def test_info_nce_is_drawn_as_unit_vectors_with_planted_positives():
    query, key, queue = info_nce.draw(info_nce.Shape(64, 128, 256), torch.device("cpu"))
    for tensor in (query, key, queue):
        torch.testing.assert_close(tensor.norm(dim=1), torch.ones(len(tensor)))
    torch.testing.assert_close((query * key).sum(dim=1).mean(), torch.tensor(0.3), atol=0.05, rtol=0)


def test_skeleton_views_stands_beside_its_baselines():
    record = run_ops_benchmark("cpu", ops=["skeleton_views"], rounds=2)
    assert [case.case for case in record.cases] == [
        "aimclr-strong (2, 50, 150) float32",
        "aimclr-strong (2, 50, 150) bfloat16",
        "aimclr (2, 50, 150) float32",
        "skeleton-contrast (2, 50, 150) float32",
    ]
    for case in record.cases:
        assert (case.batch, case.unit) == (2, "view")
        names = [m.name for m in case.measurements]
        assert names == ["ours", "PyTorch eager", "torch.compile", "copy of the bytes"]
        assert all(m.error is not None and m.error <= case.tolerance for m in case.measurements[:3])


def test_the_copy_moves_the_bytes_of_a_view():
    case = next(skeleton_views.cases(torch.device("cpu")))
    coords, velocity, _ = case.contenders[0].run()
    read = 2 * skeleton_views.FRAMES * skeleton_views.COORDS * coords.element_size()
    (copied,) = case.contenders[-1].run()
    assert 2 * copied.nbytes == read + coords.nbytes + velocity.nbytes


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
