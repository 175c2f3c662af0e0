"""What surrounds the kernels of gru_scan in Python, without a GPU."""

import pytest
import torch

from crrl_fast import _ext, reference
from tests.ops.gru_scan_cases import make, run


def cell_gradients(grad, gates, before):
    """Return the gradients at the sums of r, z and n, at n's recurrent part, and past the gates."""
    r, z, n, recurrent = gates.chunk(4, dim=-1)
    at_n = grad * (1 - z) * (1 - n * n)
    return at_n * recurrent * r * (1 - r), grad * (before - n) * z * (1 - z), at_n, at_n * r, grad * z


class StepByStep:
    """The arithmetic of both kernels in float64, clip by clip."""

    @staticmethod
    def frames(direction, length):
        return list(range(length)) if direction == 0 else list(range(length))[::-1]

    @staticmethod
    def forward(projected, w_hh, b_hh, lengths, frames, with_grad):
        assert with_grad
        clips, _, directions, columns = projected.shape
        outputs = projected.new_zeros(clips, frames, directions, columns // 3)
        gates = projected.new_zeros(clips, frames, directions, columns // 3 * 4)
        for clip, length in enumerate(lengths.tolist()):
            for direction in range(directions):
                state = outputs.new_zeros(columns // 3)
                for frame in StepByStep.frames(direction, length):
                    given = projected[clip, min(frame, projected.shape[1] - 1), direction].chunk(3)
                    recurrent = (w_hh[direction] @ state + b_hh[direction]).chunk(3)
                    r, z = (given[0] + recurrent[0]).sigmoid(), (given[1] + recurrent[1]).sigmoid()
                    n = (given[2] + r * recurrent[2]).tanh()
                    state = (1 - z) * n + z * state
                    outputs[clip, frame, direction] = state
                    gates[clip, frame, direction] = torch.cat([r, z, n, recurrent[2]])
        return outputs, gates

    @staticmethod
    def backward(grad_outputs, w_hh, lengths, outputs, gates):
        clips, frames, directions, hidden = outputs.shape
        grad_projected, grad_recurrent = (outputs.new_zeros(clips, frames, directions, 3 * hidden) for _ in range(2))
        for clip, length in enumerate(lengths.tolist()):
            for direction in range(directions):
                order = StepByStep.frames(direction, length)
                carried = outputs.new_zeros(hidden)
                for frame, earlier in reversed(list(zip(order, [None, *order[:-1]], strict=False))):
                    before = carried.new_zeros(hidden) if earlier is None else outputs[clip, earlier, direction]
                    grad = grad_outputs[clip, frame, direction] + carried
                    r, z, n, recurrent, past = cell_gradients(grad, gates[clip, frame, direction], before)
                    grad_projected[clip, frame, direction] = torch.cat([r, z, n])
                    grad_recurrent[clip, frame, direction] = torch.cat([r, z, recurrent])
                    carried = past + grad_recurrent[clip, frame, direction] @ w_hh[direction]
        return grad_projected, grad_recurrent


@pytest.fixture
def op_on_the_cpu():
    """Return the op, for which the arithmetic of its kernels has been put in on the CPU."""
    if not _ext.available:
        pytest.skip("the compiled module, which declares the op, is absent")
    with torch.library._scoped_library("crrl_fast", "IMPL") as library:
        library.impl("gru_scan", StepByStep.forward, "CPU")
        library.impl("gru_scan_backward", StepByStep.backward, "CPU")
        yield lambda projected, w_hh, b_hh, lengths, *, frames=None: torch.ops.crrl_fast.gru_scan(
            projected, w_hh, b_hh, lengths, projected.shape[1] if frames is None else frames, True
        )[0]


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("directions", [1, 2])
def test_autograd_around_the_kernels(op_on_the_cpu, directions, constant):
    *leaves, grad = make(5, 6, 4, directions)
    options = {"frames": 6} if constant else {}
    leaves[0] = leaves[0][:, :1] if constant else leaves[0]
    lengths = torch.tensor([6, 0, 1, 5, 6])
    got = run(op_on_the_cpu, *leaves, lengths, grad, **options)
    want = run(reference.gru_scan, *leaves, lengths, grad, **options)
    for result, expected in zip(got, want, strict=True):
        torch.testing.assert_close(result, expected)


def test_gradient_only_where_it_is_asked_for(op_on_the_cpu):
    *leaves, grad = make(2, 3, 4)
    lengths = torch.tensor([3, 2])
    want = run(op_on_the_cpu, *leaves, lengths, grad)[1:]
    for asked in range(3):
        some = [leaf.detach().requires_grad_(i == asked) for i, leaf in enumerate(leaves)]
        (got,) = torch.autograd.grad(op_on_the_cpu(*some, lengths), some[asked], grad)
        assert torch.equal(got, want[asked])


def test_a_second_derivative_is_refused(op_on_the_cpu):
    projected, w_hh, b_hh, _ = make(2, 3, 4)
    projected.requires_grad_()
    outputs = op_on_the_cpu(projected, w_hh, b_hh, torch.tensor([3, 2]))
    (grad,) = torch.autograd.grad(outputs.square().sum(), projected, create_graph=True)
    with pytest.raises(RuntimeError, match="gru_scan is differentiable once; .* use crrl_fast.reference.gru_scan"):
        grad.sum().backward()


def test_opcheck_around_the_kernels(op_on_the_cpu):
    projected, w_hh, b_hh, grad = (tensor.requires_grad_() for tensor in make(2, 3, 4))
    lengths = torch.tensor([3, 2])
    torch.library.opcheck(torch.ops.crrl_fast.gru_scan, (projected, w_hh, b_hh, lengths, 3, True))
    torch.library.opcheck(torch.ops.crrl_fast.gru_scan, (projected[:, :1], w_hh, b_hh, lengths, 3, True))
    outputs, gates = torch.ops.crrl_fast.gru_scan(projected, w_hh, b_hh, lengths, 3, True)
    arguments = [tensor.detach() for tensor in (grad, w_hh, lengths, outputs, gates)]
    torch.library.opcheck(torch.ops.crrl_fast.gru_scan_backward, tuple(arguments))
