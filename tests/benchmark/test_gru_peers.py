"""flashrnn and haste as `crrl-fast bench gru` uses them: the packages on a GPU, stand-ins of their interface anywhere.

The stand-ins follow what the packages publish of their equations and the layout of their weights.
"""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from crrl_fast.benchmark import harness, packages, run_cases
from crrl_fast.benchmark.cases import gru
from crrl_fast.benchmark.cases.gru import peers
from crrl_fast.benchmark.cases.gru.problem import Shape

CPU = torch.device("cpu")
SHAPES = (
    Shape(2, 6, batch=5, frames=7, input_size=4),
    Shape(2, 6, batch=5, frames=7, input_size=4, shortest=2),
    Shape(2, 4, batch=6, frames=8, input_size=10, shortest=3, decoder=True),
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(harness, "SAMPLE_SECONDS", 0.0)
    monkeypatch.setattr(gru, "SHAPES", SHAPES)


def flashrnn(projected, recurrent, bias, *, function, backend, dtype):
    """flashrnn 1.0: (B, T, gates, heads, D), (gates, heads, D, D before), (gates, heads, D) -> (1, B, T, heads, D)."""
    assert (function, backend) == ("gru", "cuda")
    assert {str(tensor.dtype) for tensor in (projected, recurrent, bias)} == {f"torch.{dtype}"}
    state = projected.new_zeros(projected.shape[0], *projected.shape[3:])
    states = []
    for step in projected.unbind(1):
        candidate, reset, update = torch.einsum("bnp,gndp->gbnd", state, recurrent)
        reset = (step[:, 0] + reset + bias[1]).sigmoid()
        update = (step[:, 1] + update + bias[2]).sigmoid()
        new = (step[:, 2] + bias[3] + reset * (candidate + bias[0])).tanh()
        state = update * state + (1 - update) * new
        states.append(state)
    return torch.stack(states, dim=1)[None], state


class HasteGRU(nn.Module):
    """haste_pytorch.GRU 0.5: weights (in, 3 * hidden), gates in the order z, r, h; all frames count as valid."""

    def __init__(self, input_size, hidden_size, batch_first=False):
        super().__init__()
        assert batch_first
        self.hidden_size = hidden_size
        self.kernel = nn.Parameter(torch.empty(input_size, 3 * hidden_size))
        self.recurrent_kernel = nn.Parameter(torch.empty(hidden_size, 3 * hidden_size))
        self.bias = nn.Parameter(torch.empty(3 * hidden_size))
        self.recurrent_bias = nn.Parameter(torch.empty(3 * hidden_size))

    def forward(self, inputs):
        state = inputs.new_zeros(len(inputs), self.hidden_size)
        outputs = []
        for frame in (inputs @ self.kernel + self.bias).unbind(1):
            input_z, input_r, input_n = frame.chunk(3, dim=1)
            hidden_z, hidden_r, hidden_n = (state @ self.recurrent_kernel + self.recurrent_bias).chunk(3, dim=1)
            update = (input_z + hidden_z).sigmoid()
            new = (input_n + (input_r + hidden_r).sigmoid() * hidden_n).tanh()
            state = update * state + (1 - update) * new
            outputs.append(state)
        return torch.stack(outputs, dim=1), state[None]


@pytest.fixture
def stand_ins(monkeypatch):
    monkeypatch.setitem(sys.modules, "flashrnn", SimpleNamespace(flashrnn=flashrnn))
    monkeypatch.setitem(sys.modules, "haste_pytorch", SimpleNamespace(GRU=HasteGRU))
    return tuple(peers.PACKAGES)


def measured(device, found, skipped):
    cases = gru.cases(device, packages=found, on_skip=skipped.append)
    return run_cases("gru", cases, device, rounds=1).cases


def check(cases, found):
    """Every package is in every case of its precisions, and computes results and gradients."""
    assert len(cases) == 4 * len(SHAPES)
    for case in cases:
        by_name = {m.name: m for m in case.measurements}
        expected = {"flashrnn"} & set(found)
        if case.case.endswith("float32"):
            expected |= {"haste"} if "haste-pytorch" in found else set()
        assert set(by_name) & {"flashrnn", "haste"} == expected
        assert all(by_name[name].error <= case.tolerance for name in expected)


def test_both_compute_the_gru_in_their_own_form(stand_ins):
    skipped = []
    check(measured(CPU, stand_ins, skipped), stand_ins)
    assert skipped == []


def test_the_packages_themselves_on_a_gpu(cuda):
    skipped = []
    found = peers.installed(skipped.append)
    if not found:
        pytest.skip("; ".join(skipped))
    check(measured(cuda, found, skipped), found)
    assert not [line for line in skipped if line.split(",")[0] in found]


def test_one_that_fails_is_named_and_left_out(stand_ins, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("nvcc\n  failed")

    monkeypatch.setitem(sys.modules, "flashrnn", SimpleNamespace(flashrnn=broken))
    skipped = []
    check(measured(CPU, stand_ins, skipped), ("haste-pytorch",))
    assert set(skipped) == {f"flashrnn, {shape.name}: nvcc failed" for shape in SHAPES}


def test_one_that_is_missing_is_named_with_its_cure(monkeypatch):
    monkeypatch.setattr(peers, "PACKAGES", {"no-such-package": "no_such_package", "numpy": "numpy.no_such_module"})
    skipped = []
    assert peers.installed(skipped.append) == {}
    assert skipped[0] == "no-such-package: not installed; pip install no-such-package"
    assert skipped[1].startswith("numpy: installed, but its import fails: No module named")
    monkeypatch.setattr(peers, "PACKAGES", {"numpy": "numpy"})
    assert set(peers.installed(skipped.append)) == {"numpy"}
    assert packages.why_missing("numpy", "numpy") == ""
