import torch

from crrl_fast.training.streams import side_by_side


def test_both_results_come_back_and_the_main_one_has_its_gradient(device):
    weight = torch.randn(256, 256, device=device, dtype=torch.float64, requires_grad=True)
    frozen = torch.randn(256, 256, device=device, dtype=torch.float64)
    x = torch.randn(64, 256, device=device, dtype=torch.float64)
    for _ in range(20):  # memory of one round is taken again in the next
        main, side = side_by_side(device, lambda: x @ weight, lambda: (x @ frozen).tanh() @ frozen)
        torch.testing.assert_close(side, (x @ frozen).tanh() @ frozen)
        weight.grad = None
        (main * side).sum().backward()
        (expected,) = torch.autograd.grad((x @ weight * side).sum(), weight)
        torch.testing.assert_close(weight.grad, expected)


def test_the_main_part_may_return_several_things(device):
    x = torch.arange(3.0, device=device)
    (parts, total), side = side_by_side(device, lambda: ({"x": x + 1}, x.sum()), lambda: -x)
    assert parts["x"].tolist() == [1, 2, 3]
    assert (total.item(), side.tolist()) == (3, [0, -1, -2])


def test_main_draws_its_random_numbers_first(device):
    torch.manual_seed(0)
    expected = torch.rand(5, device=device), torch.rand(5, device=device)
    torch.manual_seed(0)
    drawn = side_by_side(device, lambda: torch.rand(5, device=device), lambda: torch.rand(5, device=device))
    assert torch.equal(drawn[0], expected[0])
    assert torch.equal(drawn[1], expected[1])
