"""The same seed, machine and thread count give the same bits."""

import os

import pytest
import torch

from crrl_fast.determinism import deterministic_algorithms
from crrl_fast.errors import CrrlError
from tests.training.runs import assert_same_runs, metrics, pretrain

ASKED = {"stages": ("ser", "cml", "inf", "joint"), "epochs": 2, "hidden_size": 24, "probe_every": 1}


@pytest.fixture(params=[1, 2])
def threads(request):
    """Run with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("recipe", ["paper", "fast"])
def test_the_same_seed_gives_the_same_bits_in_every_stage(tiny_path, tmp_path, threads, recipe):
    one, two, other = (
        pretrain(tiny_path, tmp_path / name, recipe=recipe, seed=seed, **ASKED)
        for name, seed in (("one", 3), ("two", 3), ("other", 4))
    )
    assert_same_runs(one.path, two.path)
    assert metrics(one.path) != metrics(other.path)
    assert one.config.threads == threads


def test_deterministic_algorithms_compute_the_same_on_the_cpu(tiny_path, tmp_path):
    plain = pretrain(tiny_path, tmp_path / "plain", **ASKED)
    asked = pretrain(tiny_path, tmp_path / "asked", deterministic=True, **ASKED)
    assert_same_runs(asked.path, plain.path)
    assert not torch.are_deterministic_algorithms_enabled()


def settings():
    cudnn = torch.backends.cudnn
    fills = torch.utils.deterministic.fill_uninitialized_memory
    return torch.are_deterministic_algorithms_enabled(), cudnn.benchmark, cudnn.deterministic, fills


def test_what_they_switch_is_switched_back(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = settings()
    with deterministic_algorithms(False):
        assert settings() == before
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with pytest.raises(CrrlError), deterministic_algorithms():
        assert settings() == (True, False, True, False)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        raise CrrlError
    assert settings() == before


def test_the_same_seed_gives_the_same_bits_on_a_gpu(tiny_path, tmp_path, cuda):
    asked = {**ASKED, "device": "cuda", "deterministic": True}
    one, two = (pretrain(tiny_path, tmp_path / name, **asked) for name in ("one", "two"))
    assert_same_runs(one.path, two.path)
