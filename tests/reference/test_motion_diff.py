import pytest
import torch

from crrl_fast.reference import motion_diff


def test_worked_example():
    x = torch.tensor([[1.0, 4.0, 9.0, 16.0], [5.0, 7.0, -1.0, 0.0]])
    assert motion_diff(x).tolist() == [[3, 5, 7, 0], [2, -8, 1, 0]]
    assert motion_diff(x, torch.tensor([3, 2])).tolist() == [[3, 5, 0, 0], [2, 0, 0, 0]]
    assert motion_diff(x, torch.tensor([1, 0])).tolist() == [[0, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("shape", [(0, 5, 3), (3, 0, 4), (2, 1, 4), (2, 3, 0)])
def test_empty_and_short_batches_keep_their_shape(shape):
    y = motion_diff(torch.randn(shape), torch.zeros(shape[0], dtype=torch.int64))
    assert y.shape == shape
    assert y.count_nonzero() == 0


def test_padding_is_not_used():
    x = torch.randn(1, 4, 2, dtype=torch.float64)
    x[0, 2:] = torch.nan
    x.requires_grad_()
    y = motion_diff(x, torch.tensor([2]))
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(y[0, 0], (x[0, 1] - x[0, 0]).detach())
    assert y[0, 1:].count_nonzero() == 0
    assert grad[0].tolist() == [[-1, -1], [1, 1], [0, 0], [0, 0]]


def test_gradients():
    x = torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([5, 0, 3])
    assert torch.autograd.gradcheck(motion_diff, (x, lengths))
    assert torch.autograd.gradgradcheck(motion_diff, (x, lengths))


def test_compiles_as_one_graph():
    x, lengths = torch.randn(3, 5, 2), torch.tensor([5, 0, 3])
    compiled = torch.compile(motion_diff, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, lengths), motion_diff(x, lengths))
