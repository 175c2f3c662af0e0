import pytest
import torch

from crrl_fast.benchmark.record import Spread
from crrl_fast.benchmark.train import gemm
from crrl_fast.benchmark.train.contenders import builders
from crrl_fast.benchmark.train.plan import Plan
from crrl_fast.benchmark.train.preparation import prepare
from crrl_fast.benchmark.train.record import (
    OURS,
    OURS_BF16,
    STOCK,
    CurveRecord,
    DataRecord,
    GrowthRecord,
    Performance,
    PipelineRecord,
    Preparation,
    StageRecord,
    TrainRecord,
)
from crrl_fast.benchmark.train.workload import workload
from crrl_fast.config import Recipe

RECIPE = Recipe(hidden_size=8, batch_size=4, queue_size=8, max_frames=12)


@pytest.fixture(autouse=True)
def small_products(monkeypatch):
    monkeypatch.setattr(gemm, "SIDE", {"cpu": 16, "cuda": 16})


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny products gain nothing from a second thread, and wait for it where others use the processor."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def plan() -> Plan:
    return Plan(torch.device("cpu"), ("ser", "cml", "inf"), rounds=2, steps=2, curve_steps=6, recipe=RECIPE)


@pytest.fixture
def load(tiny_store, plan):
    return workload("tiny", tiny_store, plan.recipe, plan.batches, plan.seed)


@pytest.fixture
def prepared(load, plan):
    return prepare(load, plan)


@pytest.fixture
def build(load, prepared, plan):
    """Return a function from a stage to the builders of its contenders."""
    return lambda stage: builders(load, prepared, stage, plan)


def spread(median: float) -> Spread:
    return Spread(median, median * 0.9, median * 1.1)


def stage_record(stage: str) -> StageRecord:
    return StageRecord(
        stage,
        0.25,
        tuple(
            Performance(name, spread(100 * ratio), spread(ratio), spread(0.3 * ratio), 5 << 20)
            for name, ratio in ((STOCK, 1), (OURS, 2.5), (OURS_BF16, 4.25))
        ),
    )


@pytest.fixture
def record() -> TrainRecord:
    """Two data sets, the first with a pipeline, a curve a stage, and growth."""
    pipeline = tuple(
        PipelineRecord(name, spread(1000 / ratio), spread(90 * ratio), spread(ratio))
        for name, ratio in ((STOCK, 1), (OURS, 2.4), (OURS_BF16, 4.1))
    )
    preparation = (
        Preparation(STOCK, {"host arrays": 2.5}, 400 << 20),
        *(
            Preparation(name, {"resident frames": 0.01, "teacher's features": 3.0}, 100 << 20)
            for name in (OURS, OURS_BF16)
        ),
    )
    data = tuple(
        DataRecord(name, 1020, 500, 60, 34.4, 60, 90 << 20, stages, preparation, through)
        for name, stages, through in (
            ("ucla", (stage_record("cml"), stage_record("inf")), pipeline),
            ("demo", (stage_record("cml"),), ()),
        )
    )
    curves = tuple(
        CurveRecord(stage, "ucla", (4.0, 2.0, 1.0), (4.0, 2.000001, 1.0), (4.0, 2.000001, 1.000002), (2e-6, 8e-6, 3e-5))
        for stage in ("cml", "inf")
    )
    return TrainRecord(
        benchmark="train",
        device="cpu",
        device_name="Some CPU",
        threads=2,
        rounds=10,
        steps=5,
        seed=0,
        versions={"crrl_fast": "0.1.0", "torch": "2.13.0", "cuda": None},
        recipe={"epochs": 60},
        gemm_flops={"float32": spread(1e11), "bfloat16": spread(3e11)},
        curves=curves,
        data=data,
        growth=tuple(GrowthRecord(n, n * 33_000, spread(60), spread(1), n * 1e-8, 9 << 20) for n in (1000, 10_000)),
    )
