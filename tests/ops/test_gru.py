import pytest
import torch

from crrl_fast import _ext, reference
from crrl_fast.ops import gru
from tests.ops.gru_cases import CASES, Case, assert_near, cast, run, stock_gru

SMALL = Case(5, 4, 6, 3, layers=2, bidirectional=True)
MIDDLE = Case(33, 21, 17, 20, layers=2, bidirectional=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_stock_torch(device, case):
    x, weights, lengths = case.make()
    truth = run(stock_gru, x, weights, lengths, **case.options)
    for dtype, error in ((torch.float64, 1e-11), (torch.float32, 1e-5)):
        got = run(gru, *cast(x, weights, lengths, device, dtype), **case.options)
        assert_near(got, truth, error)


@pytest.mark.parametrize("case", [case for case in CASES[::2] if case.frames > 1], ids=str)
def test_bfloat16_products_are_within_stock_autocast(device, case):
    x, weights, lengths = case.make()
    truth = run(stock_gru, x, weights, lengths, **case.options)

    def under_autocast(op):
        with torch.autocast(device.type, torch.bfloat16):
            return run(op, *cast(x, weights, lengths, device, torch.float32), **case.options)

    ours, theirs = under_autocast(gru), under_autocast(stock_gru)
    explicit = run(gru, *cast(x, weights, lengths, device, torch.float32), **case.options, products=torch.bfloat16)
    assert all(torch.equal(a, b) for a, b in zip(ours, explicit, strict=True))
    rounding = 2**-8  # of bfloat16: what is kept for the backward is rounded once more
    for mine, budget, exact in zip(ours, theirs, truth, strict=True):
        assert float((mine - exact).norm()) <= float((budget - exact).norm()) + rounding * float(exact.norm())


@pytest.mark.parametrize("weight_dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("constant", [False, True])
def test_bfloat16_throughout(device, weight_dtype, constant):
    case = Case(40, 9, 12, 24, layers=2, bidirectional=True, constant=constant)
    x, weights, lengths = case.make()
    x, weights = x.bfloat16().double(), [weight.bfloat16().double() for weight in weights]
    truth = run(stock_gru, x, weights, lengths, **case.options)
    inputs = cast(x, weights, lengths, device, torch.bfloat16, weight_dtype)
    out = gru(*inputs, **case.options)
    assert {result.dtype for result in out} == {torch.bfloat16}
    for ours, exact in zip(run(gru, *inputs, **case.options), truth, strict=True):
        assert float((ours - exact).norm()) <= 0.015 * float(exact.norm())


def test_float16_runs_everywhere(device):
    x, weights, lengths = SMALL.make()
    truth = run(stock_gru, x, weights, lengths, **SMALL.options)
    for dtype, options in ((torch.float16, {}), (torch.float32, {"products": torch.float16})):
        inputs = cast(x, weights, lengths, device, dtype)
        assert gru(*inputs, **SMALL.options, **options).mean.dtype == dtype
        assert_near(run(gru, *inputs, **SMALL.options, **options), truth, 1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("constant", [False, True])
def test_what_lies_in_the_padding_never_matters(device, dtype, constant):
    case = Case(17, 9, 12, 20, layers=2, bidirectional=True, constant=constant)
    x, weights, lengths = cast(*case.make(), device, dtype)
    padding = torch.arange(case.frames, device=device) >= lengths[:, None]
    dirty = x.clone()
    dirty[lengths == 0 if constant else padding] = torch.nan
    grad = torch.ones(case.clips, case.frames, 2 * case.hidden, device=device, dtype=dtype)
    found = []
    for inputs, poison in ((x, 1.0), (dirty, torch.nan)):
        leaves = [tensor.detach().requires_grad_() for tensor in (inputs, *weights)]
        out = gru(leaves[0], leaves[1:], lengths, **case.options)
        assert out.outputs[padding].count_nonzero() == 0
        assert all(ends[lengths == 0].count_nonzero() == 0 for ends in out[1:])
        grads = torch.autograd.grad(out.outputs, leaves, grad.masked_fill(padding[:, :, None], poison))
        assert grads[0][lengths == 0 if constant else padding].count_nonzero() == 0
        found.append([*out, *grads])
    for clean, poisoned in zip(*found, strict=True):
        assert poisoned.isfinite().all()
        assert torch.equal(clean, poisoned)


def test_lengths_of_all_frames_are_no_lengths(device):
    for constant in (False, True):
        case = Case(17, 9, 12, 20, layers=2, bidirectional=True, ragged=False, constant=constant)
        x, weights, _ = cast(*case.make(), device)
        lengths = torch.full((case.clips,), case.frames, device=device)
        dense, full = (run(gru, x, weights, given, **case.options) for given in (None, lengths))
        assert_near(full, dense, 1e-13)


def test_a_batch_without_frames(device):
    for case in (SMALL, Case(5, 4, 6, 3, layers=2, bidirectional=True, constant=True)):
        x, weights, lengths = cast(*case.make(), device, torch.float32)
        everything = run(gru, x, weights, torch.zeros_like(lengths), **case.options)
        assert len(everything) == 4 + 1 + 16
        assert not any(tensor.count_nonzero() for tensor in everything)


def test_a_batch_without_clips(device):
    case = Case(5, 0, 6, 3, layers=2, bidirectional=True)
    x, weights, lengths = cast(*case.make(), device, torch.float32)
    *results, for_x, first_weight = run(gru, x, weights, lengths, **case.options)[:6]
    assert [list(result.shape) for result in (*results, for_x)] == [[0, 6, 10], [0, 10], [0, 10], [0, 10], [0, 6, 3]]
    assert first_weight.count_nonzero() == 0


VIEWS = {
    "time major": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "numbers first": lambda x: x.movedim(-1, 0).contiguous().movedim(0, -1),
    "frame slice": lambda x: x.repeat_interleave(2, dim=1)[:, ::2],
    "number slice": lambda x: torch.cat([x, x], dim=-1)[..., : x.shape[-1]],
    "misaligned": lambda x: torch.cat([x.new_zeros(1), x.flatten()])[1:].view_as(x),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("products", [None, torch.bfloat16])
def test_any_layout(device, view, products):
    x, weights, lengths = cast(*MIDDLE.make(), device, torch.float32)
    views = [weight.T.contiguous().T if weight.dim() == 2 else weight.repeat_interleave(2)[::2] for weight in weights]
    assert not VIEWS[view](x).is_contiguous() or view == "misaligned"
    expected = run(gru, x, weights, lengths, **MIDDLE.options, products=products)
    got = run(gru, VIEWS[view](x), views, lengths.repeat_interleave(2)[::2], **MIDDLE.options, products=products)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_every_clip_may_be_the_same_tensor(device):
    x, weights, lengths = cast(*MIDDLE.make(), device, torch.float32)
    one = x[:1]
    got = gru(one.expand(21, -1, -1), weights, lengths, **MIDDLE.options)
    assert_near(got, gru(one.repeat(21, 1, 1), weights, lengths, **MIDDLE.options), 0)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize(
    "case",
    [
        Case(2, 4, 3, 2, layers=2, bidirectional=True),
        Case(3, 2, 3, 2, bias=False, ragged=False),
        Case(2, 4, 3, 2, layers=2, constant=True),
    ],
    ids=str,
)
def test_gradients(device, place, case):
    x, weights, lengths = cast(*case.make(), device)
    leaves = [tensor.requires_grad_() for tensor in (x, *weights)]
    assert torch.autograd.gradcheck(lambda x, *w: gru(x, w, lengths, **case.options)[place], leaves)


@pytest.mark.parametrize("products", [None, torch.bfloat16])
def test_gradients_of_any_part_in_any_part(device, products):
    x, weights, lengths = cast(*MIDDLE.make(), device, torch.float32)
    everything = [x, *weights]

    def gradients(wanted, needed, return_outputs=True):
        leaves = [tensor.detach().requires_grad_(place in needed) for place, tensor in enumerate(everything)]
        out = gru(leaves[0], leaves[1:], lengths, **MIDDLE.options, products=products, return_outputs=return_outputs)
        loss = sum(((place + 1) * out[place].square()).sum() for place in wanted)
        return torch.autograd.grad(loss, [leaves[place] for place in needed])

    whole = range(len(everything))
    for wanted in ((0,), (1,), (2,), (3,), (1, 3), (0, 1, 2, 3)):
        expected = gradients(wanted, whole)
        for needed in ((0,), (1, 2), (4, 9, 16), tuple(whole)[1:]):
            got = gradients(wanted, needed, return_outputs=0 in wanted)
            assert all(torch.equal(a, expected[place]) for a, place in zip(got, needed, strict=True))


def test_results_do_not_depend_on_what_is_asked_for(device):
    x, weights, lengths = cast(*MIDDLE.make(), device, torch.float32)
    inference = gru(x, weights, lengths, **MIDDLE.options)
    assert not any(result.requires_grad for result in inference)
    ends = gru(x, weights, lengths, **MIDDLE.options, return_outputs=False)
    assert ends.outputs is None
    weights[3].requires_grad_()
    training = gru(x, weights, lengths, **MIDDLE.options)
    assert all(result.requires_grad for result in training)
    with torch.no_grad():
        silent = gru(x, weights, lengths, **MIDDLE.options)
    assert not silent.mean.requires_grad
    error = 0 if device.type == "cpu" else 1e-6  # cuDNN has an algorithm of its own for inference
    for others in (training, silent):
        assert all(torch.allclose(a, b, rtol=0, atol=error) for a, b in zip(inference, others, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(inference[1:], ends[1:], strict=True))


def test_the_graph_can_be_walked_twice(device):
    x, weights, lengths = cast(*MIDDLE.make(), device, torch.float32)
    leaves = [tensor.requires_grad_() for tensor in (x, *weights)]
    loss = sum(result.square().sum() for result in gru(x, weights, lengths, **MIDDLE.options))
    first, second = (torch.autograd.grad(loss, leaves, retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_second_derivative_is_refused():
    x, weights, lengths = SMALL.make()
    x.requires_grad_()
    mean = gru(x, weights, lengths, **SMALL.options).mean
    with pytest.raises(RuntimeError, match=r"gru is differentiable once.*crrl_fast\.reference\.gru"):
        torch.autograd.grad(mean.sum(), x, create_graph=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("constant", [False, True])
def test_same_bits_with_any_number_of_threads(dtype, constant):
    case = Case(70, 37, 13, 30, layers=2, bidirectional=True, constant=constant)
    inputs = cast(*case.make(), "cpu", dtype)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 1):
            torch.set_num_threads(threads)
            torch.manual_seed(0)
            results.append(run(gru, *inputs, **case.options, dropout=0.3))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_same_bits_every_time(device):
    inputs = cast(*MIDDLE.make(), device, torch.float32)
    results = []
    for _ in range(5):
        torch.manual_seed(3)
        results.append(run(gru, *inputs, **MIDDLE.options, dropout=0.3))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    ("constant", "bfloat16", "dropout"),
    [(False, False, 0.0), (False, True, 0.3), (True, False, 0.3), (True, True, 0.0)],
)
def test_opcheck(constant, bfloat16, dropout):
    # What is kept for the backward has no padding at this size, so that all of it can be compared; of ragged batches it
    # has, and what lies there is not set.
    case = Case(16, 4, 16, 3, layers=2, bidirectional=True, constant=constant)
    x, weights, lengths = cast(*case.make(), "cpu", torch.float32)
    strided = [weight.T.contiguous().T if weight.dim() == 2 else weight.repeat(2)[: len(weight)] for weight in weights]
    dense = x.movedim(-1, 0).contiguous().movedim(0, -1), strided, None
    seed = torch.tensor(7) if dropout else None
    settings = (case.frames if constant else -1, 2, True, dropout, bfloat16)
    op, backward = torch.ops.crrl_fast.gru, torch.ops.crrl_fast.gru_backward
    for inputs in (dense, (x, weights, lengths)):
        torch.library.opcheck(op, (*inputs, seed, *settings, True, False))
        leaves = [tensor.detach().requires_grad_() for tensor in (inputs[0], *inputs[1])]
        checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
        checks += ["test_aot_dispatch_dynamic"] if inputs[2] is None else []
        for return_outputs in (False, True):
            arguments = (leaves[0], leaves[1:], inputs[2], seed, *settings, return_outputs, True)
            torch.library.opcheck(op, arguments, test_utils=checks)
        results = op(*inputs, seed, *settings, True, True)
        grads = [torch.randn_like(result) for result in results[:4]]
        strided_grads = [None, grads[1].T.contiguous().T, None, grads[3][:1].expand_as(grads[3])]
        for given, x_grad in ((grads, False), (strided_grads, True)):
            torch.library.opcheck(backward, (*given, *inputs, seed, *results[4:], *settings, x_grad))


@pytest.mark.parametrize(("backend", "dynamic"), [("inductor", False), ("aot_eager", False), ("aot_eager", True)])
@pytest.mark.parametrize("constant", [False, True])
def test_compiles_as_one_graph(device, backend, dynamic, constant):
    torch.compiler.reset()  # the cases share a function, whose compilations are counted

    def step(x, weights, lengths, frames):
        out = gru(
            x * 2, weights, lengths, num_layers=2, frames=frames if constant else None, dropout=0.0, bidirectional=True
        )
        return out.mean * 3, out.outputs.square().sum(), out.last

    whole = torch.compile(step, fullgraph=True, backend=backend, dynamic=dynamic)
    for clips, frames in [(4, 3), (6, 5)]:
        case = Case(5, clips, frames, 3, layers=2, bidirectional=True, constant=constant)
        found = []
        for function in (step, whole):
            x, weights, lengths = cast(*case.make(), device, torch.float32)
            leaves = [tensor.requires_grad_() for tensor in (x, *weights)]
            results = function(x, weights, lengths, frames)
            found.append([*results, *torch.autograd.grad(sum(result.sum() for result in results), leaves)])
        torch.testing.assert_close(*found)


def test_dropout_is_drawn_anew_in_a_compiled_graph(device):
    x, weights, lengths = cast(*SMALL.make(), device, torch.float32)

    def step(x):
        return gru(x, weights, lengths, **SMALL.options, dropout=0.5).mean

    whole = torch.compile(step, fullgraph=True, backend="aot_eager")
    found = []
    for function in (step, whole):
        torch.manual_seed(1)
        found.append([function(x) for _ in range(3)])
    torch.testing.assert_close(*found)
    assert not torch.equal(found[1][0], found[1][1])


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("products", [torch.float64, torch.float32, torch.bfloat16])
def test_dropout_masks_are_those_of_the_reference(products, constant):
    dtype = torch.float64 if products == torch.float64 else torch.float32
    case = Case(17, 9, 12, 20, layers=3, bidirectional=True, constant=constant)
    inputs = cast(*case.make(), "cpu", dtype)
    found = []
    for op in (gru, reference.gru):
        torch.manual_seed(11)
        found.append(run(op, *inputs, **case.options, dropout=0.4, products=products))
    # Rounding to bfloat16 amplifies the last bit of a float32 sum.
    assert_near(*found, {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}[products])
    torch.manual_seed(12)
    other = run(gru, *inputs, **case.options, dropout=0.4, products=products)
    assert float((other[0] - found[0][0]).abs().max()) > 0.1


def seen_through(device, units, clips, frames):
    """Return a GRU of two layers whose second shows what it was fed: almost its input, and 0 of 0."""
    zero = torch.zeros(3 * units, units)
    show = torch.cat([torch.zeros(2 * units, units), 1e-4 * torch.eye(units)])
    keep_nothing = torch.cat([torch.zeros(units), torch.full((units,), -100.0), torch.zeros(units)])
    weights = [torch.randn(3 * units, 4), zero, torch.ones(3 * units), zero[:, 0], show, zero, keep_nothing, zero[:, 0]]
    return torch.randn(clips, frames, 4).to(device), [weight.to(device) for weight in weights]


def test_dropout_statistics(device):
    torch.manual_seed(0)
    x, weights = seen_through(device, 50, 40, 30)
    plain = gru(x, weights, num_layers=2).outputs
    assert plain.count_nonzero() == plain.numel() == 60_000
    for p in (0.1, 0.5, 0.99):
        masks = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            outputs = gru(x, weights, num_layers=2, dropout=p).outputs
            kept = outputs.abs() > 1e-20  # z is almost 0
            torch.testing.assert_close(outputs[kept] * (1 - p), plain[kept], rtol=1e-3, atol=0)
            masks.append(kept.double())
        spread = (p * (1 - p) / 60_000) ** 0.5
        assert abs(float(masks[0].mean()) - (1 - p)) < 5 * spread
        both = float((masks[0] * masks[1]).mean())
        assert abs(both - (1 - p) ** 2) < 5 * spread  # of two seeds: independent
        neighbours = masks[0][:, 1:] * masks[0][:, :-1], masks[0][..., 1:] * masks[0][..., :-1]
        for pairs in (*neighbours, masks[0][1:] * masks[0][:-1]):
            assert abs(float(pairs.mean()) - (1 - p) ** 2) < 10 * spread


def test_dropout_of_a_single_layer_changes_and_draws_nothing(device):
    x, weights, lengths = cast(*Case(5, 4, 6, 3).make(), device, torch.float32)
    torch.manual_seed(0)
    got = gru(x, weights, lengths, dropout=0.9)
    assert all(torch.equal(a, b) for a, b in zip(got, gru(x, weights, lengths), strict=True))
    after = torch.rand(1, device=device)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1, device=device))


def test_autocast_leaves_float64_alone(device):
    inputs = cast(*SMALL.make(), device)
    expected = gru(*inputs, **SMALL.options)
    with torch.autocast(device.type, torch.bfloat16):
        got = gru(*inputs, **SMALL.options)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.skipif(not _ext.available, reason="the reference rounds the factors on any processor")
def test_a_processor_without_bfloat16_multiplies_in_float32(monkeypatch):
    x, weights, lengths = cast(*SMALL.make(), torch.device("cpu"), torch.float32)
    expected = run(gru, x, weights, lengths, **SMALL.options)
    monkeypatch.setattr(_ext, "has_bfloat16_products", False)
    found = run(gru, x, weights, lengths, **SMALL.options, products=torch.bfloat16)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    halves = cast(x, weights, lengths, torch.device("cpu"), torch.bfloat16)
    assert gru(*halves, **SMALL.options).mean.dtype == torch.bfloat16
    assert_near(run(gru, *halves, **SMALL.options), run(stock_gru, *SMALL.make(), **SMALL.options), 3e-2)
