"""What runs on CUDA. The compositions are of calls that also run, and are tested, on the CPU."""

import pytest
import torch

from crrl_fast.models import RaggedGRU
from crrl_fast.ops import gru, gru_cuda
from crrl_fast.reference.gru import summarize
from tests.ops.gru_cases import CASES, Case, assert_near, cast, run, stock_gru

CASE = Case(33, 21, 17, 20, layers=3, bidirectional=True)
BACKENDS = ["cudnn", "persistent"]


@pytest.fixture(params=BACKENDS)
def compose(request):
    """Return each composition."""
    return getattr(gru_cuda, f"{request.param}_outputs")


def as_gru(compose):
    """Return gru on the CPU, composed so."""

    def op(x, weights, lengths, *, products=None, dropout=0.0, **options):
        outputs = compose(x, weights, lengths, products=products or x.dtype, dropout=dropout, **options)
        assert outputs.dtype == (products or x.dtype)
        return summarize(outputs, lengths, True, x.dtype)

    return op


@pytest.mark.parametrize("case", CASES, ids=str)
def test_compositions_equal_stock_torch(compose, case):
    x, weights, lengths = case.make()
    got = run(as_gru(compose), x, weights, lengths, **case.options)
    assert_near(got, run(stock_gru, x, weights, lengths, **case.options), 1e-11)


@pytest.mark.parametrize("products", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("ragged", [False, True])
def test_compositions_in_16_bits(compose, products, ragged):
    case = Case(33, 21, 17, 20, layers=2, bidirectional=True, ragged=ragged)
    x, weights, lengths = case.make()
    truth = run(stock_gru, x, weights, lengths, **case.options)
    inputs = cast(x, weights, lengths, "cpu", torch.float32)

    def under_autocast(*arguments, **options):  # which must not get in the way
        with torch.autocast("cpu", torch.bfloat16):
            return as_gru(compose)(*arguments, **options)

    got = run(under_autocast, *inputs, **case.options, products=products)
    for ours, exact in zip(got, truth, strict=True):
        assert float((ours - exact).norm()) <= 2 * torch.finfo(products).eps * float(exact.norm())


@pytest.mark.parametrize("constant", [False, True])
def test_compositions_leave_the_padding_alone(compose, constant):
    case = Case(17, 9, 12, 20, layers=2, bidirectional=True, constant=constant)
    x, weights, lengths = case.make()
    dirty = x.clone()
    padding = torch.arange(case.frames) >= lengths[:, None]
    dirty[lengths == 0 if constant else padding] = torch.nan
    clean, found = (run(as_gru(compose), inputs, weights, lengths, **case.options) for inputs in (x, dirty))
    assert all(torch.equal(a, b) for a, b in zip(found, clean, strict=True))
    assert found[0][padding].count_nonzero() == 0


@pytest.mark.parametrize("ragged", [False, True])
def test_compositions_clamp_lengths_and_drop_units(compose, ragged):
    case = Case(17, 9, 12, 20, layers=2, bidirectional=True, ragged=ragged)
    x, weights, lengths = case.make()
    op = as_gru(compose)
    if ragged and compose is gru_cuda.cudnn_outputs:  # gru_scan's reference checks them instead
        wild = lengths + 99 * (lengths == case.frames) - 99 * (lengths == 0)
        assert (wild != lengths).sum() >= 2
        assert torch.equal(
            op(x, weights, wild, **case.options).outputs, op(x, weights, lengths, **case.options).outputs
        )
    torch.manual_seed(0)
    first, second = (op(x, weights, lengths, **case.options, dropout=0.5).outputs for _ in range(2))
    torch.manual_seed(0)
    again = op(x, weights, lengths, **case.options, dropout=0.5).outputs
    assert torch.equal(first, again)
    assert float((first - second).abs().max()) > 0.1


def test_weights_are_compact_in_the_order_of_cudnn():
    _, weights, _ = Case(3, 1, 1, 5, layers=2, bidirectional=True).make()
    compact = gru_cuda._compact(weights, torch.float32, 4)
    order = sorted(range(16), key=lambda index: compact[index].storage_offset())
    assert order == [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15]
    assert len({weight.untyped_storage().data_ptr() for weight in compact}) == 1
    assert all(torch.equal(a, b.float()) for a, b in zip(compact, weights, strict=True))


@pytest.mark.parametrize("ragged", [False, True])
def test_composition_compiles_as_one_graph(ragged):
    case = Case(5, 4, 3, 3, layers=2, bidirectional=True, ragged=ragged)
    x, weights, lengths = cast(*case.make(), "cpu", torch.float32)
    op = as_gru(gru_cuda.cudnn_outputs)
    whole = torch.compile(lambda x: op(x, weights, lengths, **case.options), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(whole(x), op(x, weights, lengths, **case.options))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("constant", [False, True])
def test_backends_on_a_gpu(cuda, backend, ragged, constant):
    case = Case(48, 21, 17, 20, layers=2, bidirectional=True, ragged=ragged, constant=constant)
    x, weights, lengths = case.make()
    truth = run(stock_gru, x, weights, lengths, **case.options)
    inputs = cast(x, weights, lengths, cuda, torch.float32)
    assert_near(run(gru, *inputs, **case.options, backend=backend), truth, 2e-3)  # TF32 may be on


def test_lengths_on_a_gpu_are_clamped(cuda):
    x, weights, _ = cast(*CASE.make(), cuda, torch.float32)
    wild = torch.arange(21, device=cuda) * 3 - 20
    got, expected = (gru(x, weights, lengths, **CASE.options) for lengths in (wild, wild.clamp(0, 17)))
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("precision", [None, torch.bfloat16, torch.float16])
def test_nothing_is_read_back_and_nothing_warns(cuda, ragged, precision, recwarn):
    module = RaggedGRU(20, 32, 2, bidirectional=True, dropout=0.2).to(cuda)
    x, lengths = torch.randn(21, 17, 20, device=cuda), torch.arange(21, device=cuda) % 18 if ragged else None
    with torch.autocast("cuda", precision, enabled=precision is not None):
        module(x, lengths).mean.sum().backward()
        torch.cuda.set_sync_debug_mode("error")
        try:
            module(x, lengths).mean.sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert not [warning for warning in recwarn if "contiguous chunk" in str(warning.message)]


@pytest.mark.parametrize("ragged", [False, True])
def test_a_cuda_graph_holds_forward_and_backward(cuda, ragged):
    module = RaggedGRU(20, 32, 2, bidirectional=True).to(cuda)
    parameters = list(module.parameters())
    x, lengths = torch.randn(21, 17, 20, device=cuda), torch.arange(21, device=cuda) % 18

    def step():
        mean = module(x, lengths if ragged else None, return_outputs=False).mean
        return mean, *torch.autograd.grad(mean.square().sum(), parameters)

    stream = torch.cuda.Stream(cuda)
    stream.wait_stream(torch.cuda.current_stream(cuda))
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream(cuda).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    for _ in range(3):
        x.copy_(torch.randn_like(x))
        lengths.copy_(lengths.roll(1))
        graph.replay()
        torch.testing.assert_close(captured, step())
