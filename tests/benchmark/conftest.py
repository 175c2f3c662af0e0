import pytest

from crrl_fast.benchmark.record import BenchmarkRecord, CaseRecord, Measurement, Spread


def measurement(name: str, ratio: float, error: float | None = 0.0, **fields) -> Measurement:
    """Return one that took ``ratio`` milliseconds where ours took one."""
    seconds = Spread(ratio * 1e-3, ratio * 0.9e-3, ratio * 1.2e-3)
    return Measurement(name, seconds, Spread(ratio, ratio * 0.9, ratio * 1.2), error, 3 << 20, **fields)


@pytest.fixture
def record() -> BenchmarkRecord:
    """Two ops, three cases, every kind of contender."""
    yardstick = measurement("copy of the bytes", 0.8, None)
    eager = measurement("PyTorch eager", 12.5, 3e-8, note="converted beforehand")
    cases = (
        CaseRecord("motion_diff", "forward (128, 64, 150) float32 ragged", 1e-7, (measurement("ours", 1), eager), 30),
        CaseRecord(
            "motion_diff", "forward (256, 300, 150) float32", 1e-7, (measurement("ours", 1), eager, yardstick), 12
        ),
        CaseRecord("skeleton_views", "strong", 1e-7, (measurement("ours", 1), yardstick), 30, batch=100, unit="view"),
    )
    versions = {"crrl_fast": "0.1.0", "torch": "2.13.0", "cuda": None}
    return BenchmarkRecord("ops", "cpu", "Some CPU", 2, versions, 30, cases)
