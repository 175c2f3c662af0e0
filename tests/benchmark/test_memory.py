import pytest
import torch

from crrl_fast.benchmark.memory import peak_extra_bytes
from crrl_fast.ops import motion_diff

CPU = torch.device("cpu")
SMALL = 1 << 12
"""Room for the numbers that torch wraps in tensors of their own."""


def peak(run) -> int:
    run()
    return peak_extra_bytes(run, CPU)


def test_nothing_allocated_is_nothing():
    assert peak(lambda: None) == 0


def test_the_result_counts_and_what_was_there_before_does_not():
    x = torch.ones(1 << 18)
    assert peak(x.exp) == 4 << 18


def test_the_peak_is_that_of_what_lives_at_once():
    x = torch.ones(1 << 18)

    def chain():
        for _ in range(3):
            y = x.exp()
            z = y.exp()
            del y
            last = z.exp()
            del z
        return last

    assert peak(chain) == 3 * (4 << 18)  # the loop's previous result, and two of the three of this turn


def test_what_a_backward_keeps_counts():
    leaf = torch.ones(1 << 18, requires_grad=True)
    once = peak(lambda: torch.autograd.grad(leaf.exp().sum(), leaf))
    assert (8 << 18) <= once <= (8 << 18) + SMALL


def test_what_native_code_allocates_counts():
    x = torch.ones(64, 64, 16)
    assert peak(lambda: motion_diff(x)) == x.nbytes


def test_the_profiler_says_nothing(capfd):
    peak(lambda: torch.ones(8))
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    device = torch.device("cuda")
    x = torch.ones(1 << 18, device=device)
    assert peak_extra_bytes(x.exp, device) == 4 << 18


def test_what_ran_before_does_not_count_but_what_it_left_may_be_freed():
    held = []

    def before():
        torch.ones(1 << 20)
        held.append(torch.ones(1 << 18))

    def call():
        held.clear()
        return torch.ones(1 << 17)

    assert peak_extra_bytes(call, CPU, before) == 0  # it frees more than it takes
    assert peak_extra_bytes(lambda: torch.ones(1 << 17), CPU, before) == 4 << 17
