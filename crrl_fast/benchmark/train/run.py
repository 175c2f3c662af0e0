"""A run of ``crrl-fast bench train``: for every data set its curves, its stages and the whole of them; then growth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import torch

from crrl_fast.benchmark.ops import device_name
from crrl_fast.benchmark.record import Spread
from crrl_fast.benchmark.train.agreement import compare_curves
from crrl_fast.benchmark.train.contenders import builders
from crrl_fast.benchmark.train.gemm import DTYPES, GemmRate
from crrl_fast.benchmark.train.growth import measure_growth
from crrl_fast.benchmark.train.pipeline import pipeline
from crrl_fast.benchmark.train.plan import Plan
from crrl_fast.benchmark.train.preparation import prepare
from crrl_fast.benchmark.train.record import CurveRecord, DataRecord, TrainRecord
from crrl_fast.benchmark.train.speed import StageTimes, measure_stage
from crrl_fast.benchmark.train.workload import check_data, default_data, open_store, workload
from crrl_fast.data.store import Store
from crrl_fast.versions import software_versions

Progress = Callable[[str], None]


def run_train_benchmark(
    plan: Plan, data: Sequence[str] | None = None, on_progress: Progress = lambda line: None
) -> TrainRecord:
    """Measure training in stock PyTorch and ours.

    Args:
        plan: what to measure.
        data: names or paths of stores, ``ntu60-size`` among them; None is ``default_data()``.
        on_progress: gets a line for each thing done.

    Raises:
        ConfigError: a data set has fewer training clips than a batch, or stock cannot follow the recipe.
        DataError: a store is missing or damaged.
        TrainingError: a loss is not finite.
    """
    names = default_data() if data is None else list(data)
    check_data(names)
    gemm = {dtype: GemmRate(dtype, plan.device) for dtype in DTYPES}
    gemm_samples: dict[torch.dtype, list[float]] = defaultdict(list)
    curves: tuple[CurveRecord, ...] = ()
    records: list[DataRecord] = []
    agrees = True
    for name in names:
        store = open_store(name, plan.recipe, plan.seed)
        if plan.curve_steps and not curves:
            curves = _curves(name, store, plan, on_progress)
            agrees = all(curve.first_disagreement is None for curve in curves)
        if not agrees:  # what computes something else is not worth timing
            break
        record, times = _measure(name, store, plan, gemm, on_progress)
        records.append(record)
        for stage_times in times:
            for dtype, rates in stage_times.gemm.items():
                gemm_samples[dtype] += rates
    return TrainRecord(
        benchmark="train",
        device=plan.device.type,
        device_name=device_name(plan.device),
        threads=torch.get_num_threads(),
        rounds=plan.rounds,
        steps=plan.steps,
        seed=plan.seed,
        versions=software_versions(),
        recipe=asdict(plan.recipe),
        gemm_flops={str(dtype).removeprefix("torch."): Spread.of(rates) for dtype, rates in gemm_samples.items()},
        curves=curves,
        data=tuple(records),
        growth=measure_growth(plan, on_progress) if plan.growth and agrees else (),
    )


def _curves(name: str, store: Store, plan: Plan, on_progress: Progress) -> tuple[CurveRecord, ...]:
    load = workload(name, store, plan.recipe, plan.curve_steps, plan.seed)
    prepared = prepare(load, plan)
    found = []
    for stage in plan.stages:
        found.append(compare_curves(load, prepared, stage, plan))
        on_progress(f"compared the losses of {stage} on {name} over {plan.curve_steps} steps")
    return tuple(found)


def _measure(
    name: str, store: Store, plan: Plan, gemm: Mapping[torch.dtype, GemmRate], on_progress: Progress
) -> tuple[DataRecord, list[StageTimes]]:
    load = workload(name, store, plan.recipe, plan.batches, plan.seed)
    prepared = prepare(load, plan)
    measured, times = [], {}
    for stage in plan.stages:
        record, times[stage] = measure_stage(stage, load, builders(load, prepared, stage, plan), gemm, plan)
        measured.append(record)
        on_progress(f"measured {stage} on {name}")
    return (
        DataRecord(
            name=name,
            clips=len(load.index),
            drawn_clips=len(load.drawn),
            width=load.width,
            mean_frames=float(load.lengths.double().mean()),
            longest=int(load.lengths.max()),
            store_bytes=store.frames.nbytes,
            stages=tuple(measured),
            preparation=prepared.records,
            pipeline=pipeline(times, prepared.records, len(load.index), plan.recipe),
        ),
        list(times.values()),
    )
