"""What checkpoints cost is measured on real ones."""

import checkpoints
import pytest

from crrl_fast.recipes import get_recipe

SIZES = {"hidden_size": 8, "queue_size": 8, "batch_size": 8}


@pytest.fixture
def record(tiny_path, cpu):
    return checkpoints.measure([str(tiny_path)], get_recipe("paper").with_overrides(SIZES), 2, 2, cpu)


def test_every_stage_is_written_and_gone_on_with(record):
    (data,) = record.data
    assert (record.benchmark, record.rounds, data.data, data.clips) == ("checkpoints", 2, "tiny", 16)
    sizes = {cost.stage: cost.bytes for cost in data.stages}
    assert list(sizes) == ["ser", "cml", "inf"]
    assert sizes["inf"] > sizes["ser"] > 10_000  # the head that meets the teacher
    assert all(cost.write_seconds.median > 0 < cost.resume_seconds.median for cost in data.stages)
    assert all(cost.epoch_seconds > 0 for cost in data.stages)


def test_the_table_has_a_row_for_every_stage(record):
    lines = checkpoints.markdown(record).splitlines()
    assert lines[0].startswith("cpu: ")
    assert "2 rounds" in lines[0]
    assert [line.split(" | ")[0].strip("| ") for line in lines[4:8]] == ["**tiny, 16 clips**", "ser", "cml", "inf"]
    (cost, *_) = record.data[0].stages
    assert f"of {cost.epoch_seconds:.2f} s" in lines[5]
