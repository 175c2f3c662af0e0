"""The cases of `crrl-fast bench gru` on shapes of a few milliseconds."""

import copy
import itertools
import json
import threading
from dataclasses import asdict

import pytest
import torch

from crrl_fast.benchmark import harness, run_gru_benchmark
from crrl_fast.benchmark.cases import gru
from crrl_fast.benchmark.cases.gru import products
from crrl_fast.benchmark.cases.gru.problem import Shape, draw
from crrl_fast.errors import CrrlError

CPU = torch.device("cpu")
MEASURED = gru.SHAPES
SHAPES = (
    Shape(2, 6, batch=5, frames=7, input_size=4),
    Shape(2, 6, batch=5, frames=7, input_size=4, shortest=2),
    Shape(3, 5, batch=4, frames=6, input_size=9),
    Shape(2, 4, batch=6, frames=8, input_size=10, shortest=3, decoder=True),
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(harness, "SAMPLE_SECONDS", 0.0)
    monkeypatch.setattr(gru, "SHAPES", SHAPES)


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.name)
def problem(request):
    return draw(request.param, CPU)


def test_ours_stands_beside_its_baselines():
    seen = []
    record = run_gru_benchmark("cpu", rounds=1, on_case=seen.append)
    assert tuple(seen) == record.cases
    assert [case.case for case in record.cases] == gru.case_names()
    assert len(record.cases) == 4 * len(SHAPES)
    for case in record.cases:
        *computing, yardstick = case.measurements
        names = ["ours", "nn.GRU"]
        if case.case.endswith("bfloat16"):
            names.append("nn.GRU float32")
        assert [m.name for m in computing] == names
        assert all(m.error is not None and m.error <= case.tolerance for m in computing)
        assert (yardstick.name, yardstick.error) == ("bare matrix products", None)
        # Whoever computes has a result; the products write to what exists, but for bfloat16's scratch.
        assert all(m.extra_bytes > 0 for m in computing)
        assert case.case.endswith("bfloat16") or yardstick.extra_bytes == 0
    assert json.loads(json.dumps(asdict(record)))["benchmark"] == "gru"


def test_the_shapes_are_those_of_the_targets():
    assert [shape.name for shape in MEASURED] == [
        "2x256 bidirectional (32, 60, 60) dense",
        "2x256 bidirectional (32, 60, 60) ragged",
        "2x256 bidirectional (32, 60, 150) dense",
        "2x256 bidirectional (32, 60, 150) ragged",
        "3x1024 bidirectional (64, 64, 150) dense",
        "2x60 decoder (64, 60, 512) ragged",
    ]
    assert {shape.shortest for shape in MEASURED} == {None, 15}


def test_a_part_of_a_name_chooses_cases():
    record = run_gru_benchmark("cpu", only="ragged bfloat16", rounds=1)
    assert [case.case for case in record.cases] == [name for name in gru.case_names() if "ragged bfloat16" in name]
    assert len(record.cases) == 4
    with pytest.raises(CrrlError, match=r"no case has 'sparse' in its name; the first is 'forward\+backward 2x6 bi"):
        run_gru_benchmark("cpu", only="sparse")
    with pytest.raises(CrrlError, match="no compiled ops for xpu"):
        run_gru_benchmark("xpu")


def test_the_truth_is_that_of_every_clip_alone(problem):
    """No padding, no packing, no batch: each clip by ``nn.GRU`` in float64, and the loss as it is defined."""
    module = copy.deepcopy(problem.module).double()
    x = problem.x.detach().double().requires_grad_()
    loss, results = 0.0, []
    for clip, count in enumerate(problem.frame_counts):
        frames = x[clip, None].expand(count, -1) if problem.shape.decoder else x[clip, :count]
        outputs = module(frames)[0]
        if problem.shape.decoder:
            padding = outputs.new_zeros(problem.shape.frames - count, outputs.shape[1])
            parts = (torch.cat([outputs, padding]),)
        else:
            parts = (outputs.mean(dim=0), outputs[0], outputs[-1])
        loss = loss + sum((c[clip] * part).sum() for c, part in zip(problem.cotangents, parts, strict=True))
        results.append(parts)
    by = [*module.parameters(), *([x] if problem.shape.decoder else [])]
    expected = [torch.stack(parts) for parts in zip(*results, strict=True)] + list(torch.autograd.grad(loss, by))
    assert len(problem.truth) == len(expected)
    for found, exact in zip(problem.truth, expected, strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-12)


def test_ragged_clips_differ_in_length():
    for shape in SHAPES:
        counts = draw(shape, CPU).frame_counts
        assert len(counts) == shape.batch
        assert (len(set(counts)) > 1) == (shape.shortest is not None)
        assert min(counts) >= (shape.shortest or shape.frames)
        assert max(counts) <= shape.frames


def test_a_wrong_op_is_not_timed(monkeypatch):
    compute = gru.gru

    def without_last(*arguments, **options):
        found = compute(*arguments, **options)
        return found._replace(last=torch.zeros_like(found.last))

    monkeypatch.setattr(gru, "gru", without_last)
    with pytest.raises(harness.WrongResultError, match="inference 2x6 .* dense float32: ours is off by 1 of"):
        run_gru_benchmark("cpu", only="inference 2x6 bidirectional (5, 7, 4) dense float32", rounds=1)


# ---- the yardstick ----


def multiplications(problem, *, backward: bool) -> int:
    """Count what a GRU multiplies: 2 * m * n * k of every product, of valid frames alone."""
    shape = problem.shape
    gates = 3 * shape.hidden
    frames = sum(problem.frame_counts)
    later = frames - shape.batch  # frames with one before them
    total = 0
    for layer in range(shape.layers):
        width = shape.input_size if layer == 0 else shape.directions * shape.hidden
        rows = shape.batch if layer == 0 and shape.decoder else frames
        projection = 2 * rows * width * gates * shape.directions
        recurrence = 2 * later * shape.hidden * gates * shape.directions
        by_inputs = projection if layer > 0 or shape.decoder else 0
        total += projection + recurrence
        if backward:
            total += projection + by_inputs + 2 * recurrence
    return total


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("backward", [False, True])
def test_the_yardstick_multiplies_what_a_gru_cannot_do_without(problem, backward, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(products, "FEWEST_CLIPS", 2)
    counted, lock = [], threading.Lock()
    multiply = torch.mm

    def counting(left, right, *, out):
        with lock:
            counted.append(2 * left.shape[0] * left.shape[1] * right.shape[1])
        return multiply(left, right, out=out)

    bare = products.BareProducts(problem.shape, problem.frame_counts, torch.float32, CPU).work(backward=backward)
    monkeypatch.setattr(torch, "mm", counting)
    assert bare() == ()
    assert sum(counted) == multiplications(problem, backward=backward)


def test_the_count_is_known_for_one_gru():
    """Two clips of 3 frames, one direction, 2 units, width 5: by hand."""
    problem = draw(Shape(1, 2, batch=2, frames=3, input_size=5, decoder=True), CPU)
    forward = 2 * (2 * 5 * 6) + 2 * (4 * 2 * 6)
    assert multiplications(problem, backward=False) == forward
    assert multiplications(problem, backward=True) == 3 * forward


def test_the_yardstick_is_in_the_precision_asked_for(problem):
    for precision in (torch.float32, torch.bfloat16):
        bare = products.BareProducts(problem.shape, problem.frame_counts, precision, CPU)
        for stage in [*bare._forward, *bare._backward]:
            for chain in stage:
                for product in chain:
                    assert {tensor.dtype for tensor in product} == {precision}


def test_chains_that_run_side_by_side_write_to_different_places(problem, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(products, "FEWEST_CLIPS", 2)
    bare = products.BareProducts(problem.shape, problem.frame_counts, torch.float32, CPU)
    for stage in [*bare._forward, *bare._backward]:
        spans = sorted(
            (product.out.data_ptr(), product.out.data_ptr() + product.out.nbytes)
            for chain in stage
            for product in chain
        )
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_workers_use_one_core_each_and_leave_the_caller_its_own():
    threads = torch.get_num_threads()
    workers = products._workers(3)
    assert set(workers.map(lambda _: torch.get_num_threads(), range(6))) == {1}
    assert torch.get_num_threads() == threads
    counts = []
    later = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert counts == [threads]


def test_the_yardstick_on_a_gpu_replays_the_products(cuda):
    problem = draw(SHAPES[1], cuda)
    bare = products.BareProducts(problem.shape, problem.frame_counts, torch.float32, cuda)
    run = bare.work(backward=True)
    for stage in [*bare._forward, *bare._backward]:
        for chain in stage:
            for product in chain:
                product.out.zero_()
    run()
    torch.cuda.synchronize()
    for stage in [*bare._forward, *bare._backward]:
        for chain in stage:
            for product in chain:
                torch.testing.assert_close(product.out, product.left @ product.right)
