"""The comparison with other packages; those that are installed here are measured too."""

import peers
import pytest
import torch

from crrl_fast.benchmark import harness, markdown, run_cases
from crrl_fast.benchmark.cases import info_nce

CPU = torch.device("cpu")
FOUND = {package for package in peers.PACKAGES if not peers.missing(package, CPU)}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(harness, "SAMPLE_SECONDS", 0.0)
    monkeypatch.setattr(info_nce, "SHAPES", (info_nce.Shape(4, 16, 24),))
    monkeypatch.setattr(peers, "VIEWS", 3)


def names(record) -> list[str]:
    (case,) = record.cases
    return [m.name for m in case.measurements]


def test_without_any_package_ours_is_still_measured():
    record = run_cases("peers", peers.info_nce_cases(CPU, set()), CPU, rounds=1)
    assert names(record) == ["ours", "PyTorch eager", "scaled_dot_product_attention"]
    assert all(m.error is not None for m in record.cases[0].measurements)
    record = run_cases("peers", peers.view_cases(CPU, set()), CPU, rounds=1)
    assert names(record) == ["ours", "ours, 1 thread", "AimCLR in NumPy"]
    assert "us a view" in markdown(record)


@pytest.mark.parametrize(
    ("package", "contenders"),
    [
        ("info-nce-pytorch", {"info-nce-pytorch"}),
        ("lightly", {"lightly NTXentLoss"}),
        ("pytorch-metric-learning", {"CrossBatchMemory(NTXentLoss)", "CrossBatchMemory(SupConLoss)"}),
    ],
)
def test_a_peer_computes_what_it_is_said_to(package, contenders):
    if package not in FOUND:
        pytest.skip(f"{package}: {peers.missing(package, CPU)}")
    record = run_cases("peers", peers.info_nce_cases(CPU, {package}), CPU, rounds=3)
    assert contenders <= set(names(record))
    assert all(m.error <= record.cases[0].tolerance for m in record.cases[0].measurements)


def test_torch_skeleton_runs():
    if "torch-skeleton" not in FOUND:
        pytest.skip(peers.missing("torch-skeleton", CPU))
    record = run_cases("peers", peers.view_cases(CPU, {"torch-skeleton"}), CPU, rounds=1)
    assert names(record)[-1] == "torch-skeleton"


def test_what_does_not_fit_is_said(monkeypatch, capsys):
    if "pytorch-metric-learning" not in FOUND:
        pytest.skip(peers.missing("pytorch-metric-learning", CPU))
    monkeypatch.setattr(peers, "LARGEST_MASK", 100)
    (case,) = peers.info_nce_cases(CPU, {"pytorch-metric-learning"})
    assert "CrossBatchMemory(NTXentLoss)" not in [contender.name for contender in case.contenders]
    assert "skipped CrossBatchMemory(NTXentLoss) at B=4, K=24" in capsys.readouterr().out


def test_a_missing_package_is_named_with_its_cure(monkeypatch):
    monkeypatch.setitem(peers.PACKAGES, "no-such-package", "no_such_package")
    assert peers.missing("no-such-package", CPU) == "not installed; pip install no-such-package"
    assert peers.missing("inf-cl", CPU) == "it runs on a GPU only"
    monkeypatch.setitem(peers.PACKAGES, "numpy", "numpy.no_such_module")
    assert "installed, but its import fails" in peers.missing("numpy", CPU)
