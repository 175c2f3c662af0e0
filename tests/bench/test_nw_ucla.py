import nw_ucla
import pytest

import crrl_fast


@pytest.fixture
def measured(tiny_store, tmp_path):
    """Return a function from stages to the record of a run of them."""

    def measure(*stages: str):
        sizes = {"epochs": 2, "batch_size": 8, "hidden_size": 8, "queue_size": 8}
        run = crrl_fast.pretrain(tiny_store, out=tmp_path / "run", stages=stages, quiet=True, **sizes)
        return nw_ucla.measure(run)

    return measure


def test_a_row_for_every_stage_and_fusion(measured):
    record = measured("ser", "cml", "inf", "joint")
    assert list(record["encoders"]) == ["random", "ser", "cml", "inf", "joint", "concat"]
    seconds = {name: row["seconds_per_epoch"] for name, row in record["encoders"].items()}
    assert seconds["random"] == []
    assert all(len(seconds[name]) == 2 for name in ("ser", "cml", "inf", "joint"))
    assert seconds["concat"] == [ser + cml for ser, cml in zip(seconds["ser"], seconds["cml"], strict=True)]
    lines = nw_ucla.markdown({"runs": [record]}).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == [
        "random encoder", "SER", "CML", "INF (distillation)", "JOINT (one encoder, both losses)",
        "CONCAT (SER and CML side by side)",
    ]  # fmt: skip
    assert lines[2].endswith(" | - |")


def test_no_concatenation_without_both_parts(measured):
    assert list(measured("cml", "inf")["encoders"]) == ["random", "cml", "inf"]
