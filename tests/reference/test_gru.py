import math

import pytest
import torch

from crrl_fast.reference import gru
from crrl_fast.reference.gru import keep_mask, product_dtype
from crrl_fast.reference.philox import philox
from tests.ops.gru_cases import CASES, Case, assert_near, cast, run, stock_gru

SMALL = Case(2, 4, 3, 2, layers=2, bidirectional=True)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_worked_example():
    w_ih, w_hh = [0.5, -0.25, 2.0], [1.0, 0.75, -1.5]
    b_ih, b_hh = [0.1, 0.2, 0.3], [-0.4, 0.5, 0.6]
    frames, states, h = [1.0, -2.0, 0.5], [], 0.0
    for x in frames:
        of_input = [w * x + b for w, b in zip(w_ih, b_ih, strict=True)]
        of_state = [w * h + b for w, b in zip(w_hh, b_hh, strict=True)]
        r, z = sigmoid(of_input[0] + of_state[0]), sigmoid(of_input[1] + of_state[1])
        n = math.tanh(of_input[2] + r * of_state[2])
        h = (1 - z) * n + z * h
        states.append(h)
    weights = [
        torch.tensor(values, dtype=torch.float64).view(shape)
        for values, shape in ((w_ih, (3, 1)), (w_hh, (3, 1)), (b_ih, 3), (b_hh, 3))
    ]
    x = torch.tensor([[*frames, 9.0]], dtype=torch.float64)[:, :, None]
    outputs, mean, first, last = gru(x, weights, torch.tensor([3]))
    assert outputs.flatten().tolist() == pytest.approx([*states, 0], abs=1e-15)
    assert (mean.item(), first.item(), last.item()) == pytest.approx((sum(states) / 3, states[0], states[2]))
    both = gru(x.flip(1), [*weights, *weights], bidirectional=True).outputs
    assert torch.equal(both[0, :, 1], gru(x, weights).outputs[0, :, 0].flip(0))


@pytest.mark.parametrize("case", CASES[::3], ids=str)
def test_equals_stock_torch(case):
    inputs = case.make()
    assert_near(run(gru, *inputs, **case.options), run(stock_gru, *inputs, **case.options), 1e-12)


@pytest.mark.parametrize("constant", [False, True])
def test_differentiable_any_number_of_times(constant):
    case = Case(2, 4, 3, 2, layers=2, bidirectional=True, constant=constant)
    x, weights, lengths = case.make()
    leaves = [tensor.requires_grad_() for tensor in (x, *weights)]

    def function(x, *weights):
        return gru(x, weights, lengths, **case.options)

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


def test_padding_is_not_used():
    x, weights, lengths = SMALL.make()
    assert lengths.tolist()[:3] == [3, 0, 1]
    x[torch.arange(3) >= lengths[:, None]] = torch.nan
    x.requires_grad_()
    outputs, *ends = gru(x, weights, lengths, **SMALL.options)
    assert outputs[1].count_nonzero() == outputs[2, 1:].count_nonzero() == 0
    assert not any(end[1].any() for end in ends)
    for end in ends:
        assert torch.equal(end[2], outputs[2, 0])
    (grad,) = torch.autograd.grad(sum(end.sum() for end in ends), x)
    assert grad.isfinite().all()
    assert grad[1].count_nonzero() == grad[2, 1:].count_nonzero() == 0


def test_dropout_masks_by_their_definition():
    seed = torch.tensor(-(2**62) + 12345)
    outputs = torch.empty(3, 4, 6)
    for p in (0.3, 1 - 2**-40):
        for layer in (0, 2):
            mask = keep_mask(outputs, layer, seed, p)
            assert mask.shape == outputs.shape
            for clip in range(3):
                for frame in range(4):
                    for unit in range(6):
                        counter = tuple(torch.tensor(word) for word in (unit // 4, frame, clip, layer))
                        word = int(philox(counter, seed)[unit % 4])
                        assert bool(mask[clip, frame, unit]) == (word >= min(round(p * 2**32), 2**32 - 1))
    masks = [keep_mask(torch.empty(20, 20, 20), layer, seed, 0.3) for layer in (0, 1)]
    assert abs(float(masks[0].float().mean()) - 0.7) < 0.03
    assert not torch.equal(*masks)


def test_dropout_scales_what_it_keeps():
    x, weights, lengths = SMALL.make()
    torch.manual_seed(0)
    got = gru(x, weights, lengths, **SMALL.options, dropout=0.4)
    torch.manual_seed(0)
    seed = torch.randint(2**63 - 1, ())
    options = {"bidirectional": True}
    between = gru(x, weights[:8], lengths, **options).outputs
    kept = torch.where(keep_mask(between, 0, seed, 0.4), between / 0.6, 0)
    expected = gru(kept, weights[8:], lengths, **options)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


def test_products_round_their_factors_and_nothing_else():
    torch.manual_seed(0)
    x, state = torch.randn(5, 1, 7), torch.randn(5, 3)
    weights = [torch.randn(9, 7), torch.randn(9, 3), torch.randn(9), torch.randn(9)]
    leaves = [tensor.requires_grad_() for tensor in (x, *weights)]
    mean = gru(x, weights, products=torch.bfloat16).mean

    def rounded(tensor):
        return tensor.detach().bfloat16().float()

    projected = (rounded(x[:, 0]) @ rounded(weights[0]).T + weights[2].detach()).requires_grad_()
    r, z, n = projected.chunk(3, dim=1)
    hidden = weights[3].detach()
    r, z = torch.sigmoid(r + hidden[:3]), torch.sigmoid(z + hidden[3:6])
    expected = (1 - z) * torch.tanh(n + r * hidden[6:])
    torch.testing.assert_close(mean, expected, rtol=1e-6, atol=1e-6)
    grad_x, grad_w_ih, _, grad_b_ih, _ = torch.autograd.grad(mean, leaves, state)
    (sums,) = torch.autograd.grad(expected, projected, state)
    torch.testing.assert_close(grad_x[:, 0], rounded(sums) @ rounded(weights[0]), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(grad_w_ih, rounded(sums).T @ rounded(x[:, 0]), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(grad_b_ih, sums.sum(dim=0), rtol=1e-6, atol=1e-6)


def test_dtype_of_products():
    wide, half, double = torch.zeros(1), torch.zeros(1).bfloat16(), torch.zeros(1).double()
    assert [product_dtype(x, None) for x in (wide, half, double)] == [torch.float32, torch.bfloat16, torch.float64]
    with torch.autocast("cpu", torch.bfloat16):
        assert [product_dtype(x, None) for x in (wide, half, double)] == [torch.bfloat16] * 2 + [torch.float64]
        assert product_dtype(wide, torch.float32) == torch.float32
        assert product_dtype(wide.to("meta"), None) == torch.float32


def test_a_gradient_under_autocast_is_the_same():
    x, weights, lengths = cast(*SMALL.make(), "cpu", torch.float32)
    x.requires_grad_()
    options = {**SMALL.options, "products": torch.float32}
    (expected,) = torch.autograd.grad(gru(x, weights, lengths, **options).mean.sum(), x)
    with torch.autocast("cpu", torch.bfloat16):
        (got,) = torch.autograd.grad(gru(x, weights, lengths, **options).mean.sum(), x)
    assert torch.equal(got, expected)


def test_compiles_as_one_graph():
    x, weights, lengths = SMALL.make()
    compiled = torch.compile(gru, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        compiled(x, weights, lengths, **SMALL.options), gru(x, weights, lengths, **SMALL.options)
    )
