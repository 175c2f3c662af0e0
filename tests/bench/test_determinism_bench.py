"""What the comparison of settings finds, and how it says it."""

import json

import determinism
import numpy as np
import pytest
from determinism import Setting, Trained

from crrl_fast.recipes import get_recipe


@pytest.fixture
def small(monkeypatch):
    """Train small models; the processes of their own are this one."""
    sizes = {"hidden_size": 8, "queue_size": 8, "batch_size": 8}
    monkeypatch.setattr(determinism, "RECIPE", get_recipe("paper").with_overrides(sizes))

    class Here:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, run, *arguments):
            found = run(*arguments)
            return type("Done", (), {"result": lambda _: found})()

    monkeypatch.setattr(determinism, "ProcessPoolExecutor", Here)


def test_a_setting_of_its_own_gives_the_same_bits(small, tiny_path, cpu):
    record = determinism.measure(str(tiny_path), 2, 2, [1], cpu)
    assert (record.benchmark, record.data, record.rounds, record.steps) == ("determinism", "tiny", 2, 2)
    assert [(found.stage, found.deterministic) for found in record.settings] == [
        (stage, flag) for stage in ("ser", "cml", "inf") for flag in (False, True)
    ]
    assert all(found.same_bits and found.difference == 0 for found in record.settings)
    assert all(found.cost.median == 1 for found in record.settings if not found.deterministic)
    table = determinism.markdown(record)
    assert "2 rounds of 2 steps" in table
    assert table.count("| the same | none |") == 6


def test_bits_that_differ_are_found(small, tiny_path, cpu, monkeypatch):
    calls = iter(range(100))

    def train(data, steps, setting, device):
        weights = {"w": np.array([4.0, 2.0 + 1e-3 * next(calls)], np.float32), "cursor": np.array([7])}
        return {stage: Trained(str(weights["w"]), weights, 0.2 if setting.deterministic else 0.1) for stage in ("ser",)}

    monkeypatch.setattr(determinism, "train", train)
    monkeypatch.setattr(determinism, "STAGES", ("ser",))
    plain, asked = determinism.measure(str(tiny_path), 2, 3, [1], cpu).settings
    assert not plain.same_bits
    assert plain.difference == 0
    assert asked.difference == pytest.approx(1e-3 / 4, rel=1e-3)
    assert asked.cost.median == pytest.approx(2)


def test_a_process_of_its_own_trains_and_the_record_is_written(tiny_path, tmp_path, monkeypatch):
    monkeypatch.setattr(determinism, "STAGES", ("ser",))
    files = tmp_path / "found.json", tmp_path / "found.md"
    determinism.main(str(tiny_path), 1, 2, "1", "cpu", *files)
    record = json.loads(files[0].read_text())
    assert [found["same_bits"] for found in record["settings"]] == [True, True]
    assert "| 1 | yes | the same | none |" in files[1].read_text()


def test_a_setting_sets_threads_and_algorithms(small, tiny_path, cpu, monkeypatch):
    seen = []
    monkeypatch.setattr(determinism, "deterministic_algorithms", lambda flag: seen.append(flag) or Context())
    before = determinism.torch.get_num_threads()
    determinism.train(str(tiny_path), 1, Setting(2, True), cpu)
    assert (determinism.torch.get_num_threads(), seen) == (2, [True])
    determinism.torch.set_num_threads(before)


class Context:
    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None
