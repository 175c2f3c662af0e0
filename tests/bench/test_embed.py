"""The comparison with a loop over clips: all contenders compute the same features."""

import embed
import pytest
import torch

from crrl_fast.benchmark import harness, markdown, run_cases
from crrl_fast.benchmark.harness import WrongResultError
from crrl_fast.data.store import Store
from tests.conftest import random_walks

CPU = torch.device("cpu")


@pytest.fixture
def raw():
    return Store.from_arrays(random_walks(6), layout="kinect20")


def test_ours_the_loop_and_packed_batches_agree(raw, monkeypatch):
    monkeypatch.setattr(embed, "BATCH_SIZE", 4)
    record = run_cases("embed", embed.embedding_cases("walks", raw, 5, CPU), CPU, rounds=1)
    clips, arrays = record.cases
    assert [m.name for m in clips.measurements] == [
        "ours, preprocessed clips", "loop over clips, nn.GRU", "nn.GRU, packed batches",
    ]  # fmt: skip
    assert arrays.measurements[0].name == "ours, raw arrays"
    assert all(m.error < embed.TOLERANCE for case in record.cases for m in case.measurements)
    assert (clips.batch, clips.unit) == (5, "clip")
    assert "us a clip" in markdown(record)


def test_other_features_end_the_comparison(raw, monkeypatch):
    monkeypatch.setattr(embed, "run_packed", lambda gru, clips: (embed.run_loop(gru, clips)[0] * 1.001,))
    (case, _) = embed.embedding_cases("walks", raw, 5, CPU)
    with pytest.raises(WrongResultError, match="packed batches is off by"):
        harness.measure(case, CPU, 1)
