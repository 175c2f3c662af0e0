import json
from dataclasses import asdict, replace

import pytest
from rich.console import Console

from crrl_fast.benchmark.train import scaling
from crrl_fast.benchmark.train.scaling import markdown, render, run_scaling_benchmark
from crrl_fast.errors import ConfigError, DataError, TrainingError


def test_two_processes_beside_one(tiny_path, plan):
    """Both are started for real; what they reach is not judged."""
    seen = []
    record = run_scaling_benchmark(replace(plan, rounds=1), (1, 2), [str(tiny_path)], seen.append)
    assert seen == [f"measured round 1 of 1 on {tiny_path}"]
    assert (record.benchmark, record.threads, record.stages) == ("scaling", 1, ("ser", "cml", "inf"))
    assert [found.processes for found in record.processes] == [1, 2]
    assert all(found.clips_per_second.median > 0 for found in record.processes)
    assert json.loads(json.dumps(asdict(record), allow_nan=False))["recipe"]["batch_size"] == 4


def test_efficiency_is_taken_round_by_round(tiny_path, plan, monkeypatch, capsys):
    frame_seconds = iter([0.001, 0.0008, 0.002, 0.0031])  # 1, 2 in the first round; 2, 1 in the second
    monkeypatch.setattr(scaling, "_seconds_per_frame", lambda *_: next(frame_seconds))
    record = run_scaling_benchmark(plan, (1, 2), [str(tiny_path)])
    one, two = record.processes
    assert one.efficiency.median == one.efficiency.p10 == 1
    assert two.efficiency.median == pytest.approx((0.001 / 0.0008 / 2 + 0.0031 / 0.002 / 2) / 2)
    assert two.each.median * 2 == pytest.approx(two.clips_per_second.median)
    page = markdown(record)
    assert "| processes | clips a second | of each process | efficiency |" in page
    assert f"| **{tiny_path}, ser,cml,inf, 4 clips a process** |  |  |  |" in page
    assert "70 % (" in page
    Console(width=200).print(render(record))
    assert "70 % (" in capsys.readouterr().out


@pytest.mark.parametrize("processes", [(), (0, 1), (2, 1), (1, 1)])
def test_numbers_of_processes_rise(tiny_path, plan, processes):
    with pytest.raises(ConfigError, match="--processes .*: give rising numbers of at least 1, as in 1,2"):
        run_scaling_benchmark(plan, processes, [str(tiny_path)])


def test_what_cannot_be_measured_is_refused(tiny_path, plan, monkeypatch):
    with pytest.raises(ConfigError, match="16 training clips make no batch of 20"):
        run_scaling_benchmark(plan, (1, 5), [str(tiny_path)])
    with pytest.raises(DataError, match="no data set 'nothing'"):
        run_scaling_benchmark(plan, (1, 2), ["nothing"])
    monkeypatch.setattr(scaling, "WORKER", "crrl_fast.nothing")
    with pytest.raises(TrainingError, match="1 processes could not train together: .*crrl_fast.nothing"):
        run_scaling_benchmark(plan, (1, 2), [str(tiny_path)])
