from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from crrl_fast import _ext, reference
from crrl_fast.ops import gru_scan, gru_scan_supported
from crrl_fast.ops.gru_scan import LARGEST_IN_A_BLOCK, LARGEST_IN_A_CLUSTER
from tests.property_based import HealthCheck, given, settings, st

HALVES = (torch.float16, torch.bfloat16)
# Around the 16 units of a warp, the widths that are compiled, and one block; 60 and 150 are decoders of skeletons.
HIDDEN = [1, 2, 15, 16, 17, 60, 63, 64, 65, 100, 127, 128, 129, 150, 192, 193, 255, 256]


def ragged(clips: int, frames: int) -> torch.Tensor:
    """Return lengths that include an empty clip, one frame, and all frames."""
    return torch.arange(clips).mul(3).add(frames).remainder(frames + 1)


def make(clips, frames, hidden, directions=2, *, seed=0):
    """Return float64 projected, w_hh, b_hh and a gradient of the outputs."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return (
        normal(clips, frames, directions, 3 * hidden),
        normal(directions, 3 * hidden, hidden) / hidden**0.5,
        0.3 * normal(directions, 3 * hidden),
        normal(clips, frames, directions, hidden),
    )


def run(op, projected, w_hh, b_hh, lengths, grad, **options):
    """Return the outputs and the gradients of projected, w_hh and b_hh, on the CPU."""
    leaves = [leaf.detach().requires_grad_() for leaf in (projected, w_hh, b_hh)]
    outputs = op(*leaves, lengths, **options)
    return [result.detach().cpu() for result in (outputs, *torch.autograd.grad(outputs, leaves, grad))]


def by_nn_gru(projected, w_hh, b_hh, lengths, grad):
    """Say it once more: torch's own GRU, clip by clip without padding, in float64."""
    projected, w_hh, b_hh = (leaf.detach().clone().requires_grad_() for leaf in (projected, w_hh, b_hh))
    _, _, directions, columns = projected.shape
    gru = nn.GRU(directions * columns, columns // 3, batch_first=True, bidirectional=directions == 2).double()
    weights = {}
    for direction, suffix in zip(range(directions), ("", "_reverse"), strict=False):
        # The input's weights pick the direction's own columns.
        weights[f"weight_ih_l0{suffix}"] = torch.eye(directions * columns).double()[direction * columns :][:columns]
        weights[f"bias_ih_l0{suffix}"] = torch.zeros(columns).double()
        weights[f"weight_hh_l0{suffix}"] = w_hh[direction]
        weights[f"bias_hh_l0{suffix}"] = b_hh[direction]
    outputs = torch.zeros_like(grad) + 0 * projected.sum()  # has a gradient even where all clips are empty
    for clip, length in enumerate(lengths.tolist()):
        if length:
            states, _ = torch.func.functional_call(gru, weights, projected[clip, :length].reshape(1, length, -1))
            outputs = outputs.index_put(
                (torch.tensor(clip), torch.arange(length)), states.view(length, directions, columns // 3)
            )
    valid = torch.arange(grad.shape[1]) < lengths[:, None]
    grads = torch.autograd.grad(outputs, (projected, w_hh, b_hh), grad * valid[..., None, None], allow_unused=True)
    return [
        outputs.detach(),
        *(torch.zeros_like(w) if g is None else g for g, w in zip(grads, (projected, w_hh, b_hh), strict=True)),
    ]


def errors(results, truth):
    """Return how far each result is off, beside the largest number of it."""
    return [
        float((got.double() - want).abs().max() / want.abs().max().clamp(min=1e-3))
        for got, want in zip(results, truth, strict=True)
    ]


def skip_where_it_does_not_fit(hidden, dtype, device):
    if device.type == "cuda" and not gru_scan_supported(hidden, dtype, device):
        pytest.skip(f"{hidden} units do not fit on this GPU")


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("directions", [1, 2])
def test_equals_torchs_gru(device, hidden, directions):
    skip_where_it_does_not_fit(hidden, torch.float32, device)
    lengths = ragged(11, 13)
    inputs = make(11, 13, hidden, directions)
    *leaves, grad = (tensor.to(device, torch.float32) for tensor in inputs)
    got = run(gru_scan, *leaves, lengths.to(device), grad)
    *leaves, grad = (tensor.float().double() for tensor in inputs)
    assert max(errors(got, by_nn_gru(*leaves, lengths, grad))) < 5e-6


@pytest.mark.parametrize(("clips", "frames"), [(1, 1), (1, 40), (7, 2), (8, 3), (9, 5), (17, 33), (300, 4)])
def test_numbers_of_clips_and_frames(device, clips, frames):
    lengths = ragged(clips, frames)
    *leaves, grad = make(clips, frames, 24)
    truth = by_nn_gru(*leaves, lengths, grad)
    *leaves, grad = (tensor.to(device, torch.float32) for tensor in (*leaves, grad))
    assert max(errors(run(gru_scan, *leaves, lengths.to(device), grad), truth)) < 5e-6
    full = torch.full((clips,), frames)
    with_lengths, without = (run(gru_scan, *leaves, given, grad) for given in (full.to(device), None))
    assert all(map(torch.equal, with_lengths, without))


def test_double_precision_runs_anywhere(device):
    lengths = ragged(5, 7)
    *leaves, grad = (tensor.to(device) for tensor in make(5, 7, 9))
    got = run(gru_scan, *leaves, lengths.to(device), grad)
    truth = by_nn_gru(*(tensor.cpu() for tensor in leaves), lengths, grad.cpu())
    assert max(errors(got, truth)) < 1e-12


@pytest.mark.parametrize("weight_dtype", HALVES)
@pytest.mark.parametrize("in_float32", [False, True])
@pytest.mark.parametrize("hidden", [7, 64, 128, 150, 256])
def test_low_precision_is_within_the_naive_error(device, weight_dtype, in_float32, hidden):
    skip_where_it_does_not_fit(hidden, weight_dtype, device)
    lengths = ragged(10, 20)
    dtype = torch.float32 if in_float32 else weight_dtype
    projected, w_hh, b_hh, grad = make(10, 20, hidden)
    projected, w_hh, b_hh, grad = projected.to(dtype), w_hh.to(weight_dtype), b_hh.float(), grad.to(dtype)
    truth = by_nn_gru(*(tensor.double() for tensor in (projected, w_hh, b_hh)), lengths, grad.double())
    got = run(gru_scan, *(tensor.to(device) for tensor in (projected, w_hh, b_hh, lengths, grad)))
    naive = run(reference.gru_scan, projected, w_hh, b_hh, lengths, grad)
    assert [result.dtype for result in got] == [dtype, dtype, weight_dtype, torch.float32]
    # What the kernel keeps of the gates, and sends of their gradients, is of the weights' dtype too.
    slack = [1e-6, *[2 * torch.finfo(weight_dtype).eps] * 3]
    for ours, theirs, more in zip(errors(got, truth), errors(naive, truth), slack, strict=True):
        assert ours <= 1.5 * theirs + more


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_a_constant_input_is_the_same_frame_again(device, frames):
    projected, w_hh, b_hh, grad = (tensor.to(device, torch.float32) for tensor in make(10, frames, 20))
    lengths = ragged(10, frames).to(device)
    constant = projected[:, :1]
    got = run(gru_scan, constant, w_hh, b_hh, lengths, grad, frames=frames)
    want = run(gru_scan, constant.expand(projected.shape), w_hh, b_hh, lengths, grad)
    want[1] = want[1].sum(dim=1, keepdim=True)
    for result, expected in zip(got, want, strict=True):
        torch.testing.assert_close(result, expected)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_ragged_batches_equal_torchs_gru_whatever_the_padding_holds(device, data):
    clips, frames, hidden = (data.draw(st.integers(1, most)) for most in (18, 12, 70))
    directions, seed = data.draw(st.integers(1, 2)), data.draw(st.integers(0, 2**31))
    lengths = torch.tensor(data.draw(st.lists(st.integers(0, frames), min_size=clips, max_size=clips)))
    *leaves, grad = make(clips, frames, hidden, directions, seed=seed)
    truth = by_nn_gru(*leaves, lengths, grad)
    padding = torch.arange(frames) >= lengths[:, None]
    leaves[0][padding] = torch.nan
    *leaves, grad = (tensor.to(device, torch.float32) for tensor in (*leaves, grad))
    got = run(gru_scan, *leaves, lengths.to(device), grad)
    assert max(errors(got, truth)) < 1e-5
    assert all(result[padding].eq(0).all() for result in got[:2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_views_and_no_bias(device, dtype):
    projected, w_hh, _, grad = (tensor.to(device, dtype) for tensor in make(6, 8, 33))
    lengths = ragged(6, 8).to(device)
    strided = (
        projected.transpose(0, 1).contiguous().transpose(0, 1),
        torch.cat([w_hh, w_hh], dim=2)[..., :33],
        torch.stack([lengths, lengths], dim=1)[:, 0],
    )
    assert not any(view.is_contiguous() for view in strided)
    want = gru_scan(projected, w_hh, torch.zeros(2, 99, device=device), lengths)
    assert torch.equal(gru_scan(strided[0], strided[1], None, strided[2]), want)
    # Contiguous, but on no boundary of a pair of numbers.
    misaligned = torch.empty(projected.numel() + 1, dtype=dtype, device=device)[1:].view(projected.shape)
    assert torch.equal(gru_scan(misaligned.copy_(projected), w_hh, None, lengths), want)
    leaf = projected.clone().requires_grad_()
    (from_strided,) = torch.autograd.grad(gru_scan(leaf, w_hh, None, lengths), leaf, grad[:, :, :1].expand_as(grad))
    (from_dense,) = torch.autograd.grad(
        gru_scan(leaf, w_hh, None, lengths), leaf, grad[:, :, :1].expand_as(grad).contiguous()
    )
    assert torch.equal(from_strided, from_dense)


def test_empty_batches(device):
    for clips, frames in [(0, 5), (3, 0), (0, 0)]:
        *leaves, _ = (tensor.to(device, torch.float32) for tensor in make(clips, frames, 6))
        lengths = torch.zeros(clips, dtype=torch.int64, device=device)
        assert gru_scan(*leaves, lengths).shape == (clips, frames, 2, 6)
    *leaves, grad = (tensor.to(device, torch.float32) for tensor in make(3, 5, 6))
    results = run(gru_scan, *leaves, torch.zeros(3, dtype=torch.int64, device=device), grad)
    assert all(result.eq(0).all() for result in results)


def test_saturated_gates_stay_finite(device):
    projected, w_hh, b_hh, grad = (tensor.to(device, torch.float32) for tensor in make(4, 6, 10))
    for scale in (1e3, 1e30):
        results = run(gru_scan, scale * projected, w_hh, b_hh, None, grad)
        assert all(result.isfinite().all() for result in results)
        assert results[0].abs().max() <= 1


def test_gradients(device):
    projected, w_hh, b_hh, _ = (tensor.to(device).requires_grad_() for tensor in make(3, 4, 3))
    lengths = torch.tensor([4, 0, 2], device=device)
    assert torch.autograd.gradcheck(gru_scan, (projected, w_hh, b_hh, lengths))
    assert torch.autograd.gradcheck(
        lambda p, w, b: gru_scan(p, w, b, lengths, frames=4), (projected[:, :1], w_hh, b_hh)
    )


def test_same_bits_every_time(device):
    *leaves, grad = (tensor.to(device, torch.float32) for tensor in make(30, 20, 100))
    lengths = ragged(30, 20).to(device)
    first = run(gru_scan, *leaves, lengths, grad)
    for _ in range(5):
        assert all(map(torch.equal, first, run(gru_scan, *leaves, lengths, grad)))


def compile_and_compare(device, backend):
    def step(projected, w_hh, b_hh, lengths):
        if gru_scan_supported(w_hh.shape[2], w_hh.dtype, projected.device) != (device.type == "cuda"):
            return projected.sum()
        return gru_scan(2 * projected, w_hh, b_hh, lengths).square().sum()

    compiled = torch.compile(step, fullgraph=True, backend=backend)
    projected, w_hh, b_hh, _ = (tensor.to(device, torch.float32) for tensor in make(4, 5, 6))
    lengths = ragged(4, 5).to(device)
    eager, traced = (projected.clone().requires_grad_() for _ in range(2))
    expected, got = step(eager, w_hh, b_hh, lengths), compiled(traced, w_hh, b_hh, lengths)
    assert float(got.detach()) > 0
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(torch.autograd.grad(got, traced), torch.autograd.grad(expected, eager))


def test_compiles_as_one_graph(device):
    compile_and_compare(device, "aot_eager")


@pytest.mark.parametrize(
    ("gpu", "largest"), [((7, 5, 64), 0), ((8, 0, 163), 128), ((8, 6, 99), 128), ((9, 0, 227), 256), ((12, 0, 99), 128)]
)
def test_what_is_supported_where(monkeypatch, gpu, largest):
    major, minor, kibibytes = gpu
    properties = SimpleNamespace(major=major, minor=minor, shared_memory_per_block_optin=kibibytes << 10)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(_ext, "device_types", frozenset({"cpu", "cuda"}))
    for dtype in (torch.float32, *HALVES):
        assert [hidden for hidden in range(1, 300) if gru_scan_supported(hidden, dtype, "cuda")] == [
            *range(1, largest + 1)
        ]
    assert not gru_scan_supported(64, torch.float64, "cuda")
    monkeypatch.setattr(_ext, "device_types", frozenset({"cpu"}))
    assert not gru_scan_supported(64, torch.float32, "cuda")


def test_limits_are_those_of_the_kernels():
    header = (Path(__file__).parents[2] / "csrc" / "gru_scan.h").read_text()
    for name, limit in (("Block", LARGEST_IN_A_BLOCK), ("Cluster", LARGEST_IN_A_CLUSTER)):
        assert f"kGruLargest{name} = {limit};" in header


def test_what_is_supported_without_a_gpu():
    assert not gru_scan_supported(64, torch.float32, "cpu")
    assert not gru_scan_supported(64, torch.float32, torch.device("meta"))


def test_what_is_supported_on_a_gpu(cuda):
    for dtype in (torch.float32, *HALVES):
        assert all(gru_scan_supported(hidden, dtype, cuda) for hidden in (1, 64, 128))
        wide = gru_scan_supported(256, dtype, cuda)
        assert wide == gru_scan_supported(129, dtype, cuda)
        assert wide or torch.cuda.get_device_capability(cuda) != (9, 0)
        assert not gru_scan_supported(257, dtype, cuda)
        projected, w_hh, _, _ = (tensor.to(cuda, dtype) for tensor in make(1, 1, 257, 1))
        with pytest.raises(ValueError, match="257 units a direction .* do not fit on cuda:0"):
            gru_scan(projected, w_hh)


BAD_INPUTS = {
    "two-dimensional weights": ({"w_hh": torch.zeros(12, 4)}, ValueError, r"directions, 3 hidden, .*got \[12, 4\]"),
    "three directions": ({"w_hh": torch.zeros(3, 12, 4)}, ValueError, r"1 or 2 directions, got \[3, 12, 4\]"),
    "no units": ({"w_hh": torch.zeros(2, 0, 0)}, ValueError, r"got \[2, 0, 0\]"),
    "two gates": ({"w_hh": torch.zeros(2, 8, 4)}, ValueError, r"got \[2, 8, 4\]"),
    "integers": ({"w_hh": torch.zeros(2, 12, 4).int()}, TypeError, "w_hh must be float32, .* got int32"),
    "columns": ({"projected": torch.zeros(3, 5, 2, 9)}, ValueError, r"shape \(B, T, 2, 12\), got \[3, 5, 2, 9\]"),
    "directions": ({"projected": torch.zeros(3, 5, 1, 12)}, ValueError, r"got \[3, 5, 1, 12\]"),
    "dimensions": ({"projected": torch.zeros(3, 5, 12)}, ValueError, r"got \[3, 5, 12\]"),
    "half of float32": ({"projected": torch.zeros(3, 5, 2, 12).half()}, TypeError, "w_hh's dtype, float32, .*float16"),
    "frames": ({"frames": 7}, ValueError, "1 frame or frames = 7, got 5"),
    "bias": ({"b_hh": torch.zeros(2, 4)}, ValueError, r"b_hh must be floating, of shape \[2, 12\], got .*\[2, 4\]"),
    "integer bias": ({"b_hh": torch.zeros(2, 12).int()}, ValueError, "b_hh must be floating, .* got int32"),
    "int32 lengths": ({"lengths": torch.ones(3).int()}, TypeError, "lengths must be int64, got int32"),
    "few lengths": ({"lengths": torch.ones(2).long()}, ValueError, r"shape \[3\], got \[2\]"),
    "lengths elsewhere": ({"lengths": torch.ones(3).long().to("meta")}, ValueError, "lengths must be on cpu, got meta"),
    "a length over T": ({"lengths": torch.tensor([5, 6, 0])}, ValueError, r"lengths\[1\] = 6 is outside \[0, 5\]"),
    "a length under 0": ({"lengths": torch.tensor([-1, 0, 0])}, ValueError, r"lengths\[0\] = -1 is outside"),
}


@pytest.mark.parametrize("op", [gru_scan, reference.gru_scan], ids=["op", "reference"])
@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_is_named(op, name):
    changes, error, message = BAD_INPUTS[name]
    with pytest.raises(error, match=message):
        op(**{"projected": torch.zeros(3, 5, 2, 12), "w_hh": torch.zeros(2, 12, 4), **changes})


# ---- What surrounds the kernels in Python, without a GPU ----


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


# ---- On a GPU alone ----


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("hidden", [6, 7])
def test_opcheck(cuda, dtype, hidden):
    projected, w_hh, b_hh, grad = (tensor.to(cuda, dtype).requires_grad_() for tensor in make(3, 4, hidden))
    # Without padding, which the gates leave as it was.
    torch.library.opcheck(torch.ops.crrl_fast.gru_scan, (projected, w_hh, b_hh, None, 4, True))
    torch.library.opcheck(torch.ops.crrl_fast.gru_scan, (projected[:, :1], w_hh, None, None, 4, True))
    outputs, gates = torch.ops.crrl_fast.gru_scan(projected, w_hh, b_hh, None, 4, True)
    arguments = (grad.detach(), w_hh.detach(), None, outputs.detach(), gates.detach())
    torch.library.opcheck(torch.ops.crrl_fast.gru_scan_backward, arguments)


def test_compiles_as_one_graph_with_inductor(cuda):
    compile_and_compare(cuda, "inductor")


def test_lengths_on_a_gpu_are_clamped(cuda):
    *leaves, _ = (tensor.to(cuda, torch.float32) for tensor in make(3, 5, 8))
    got = gru_scan(*leaves, torch.tensor([-7, 3, 99], device=cuda))
    assert torch.equal(got, gru_scan(*leaves, torch.tensor([0, 3, 5], device=cuda)))


def test_more_clips_than_run_at_once(cuda):
    hidden = 256 if gru_scan_supported(256, torch.bfloat16, cuda) else 128
    *leaves, grad = (tensor.to(cuda, torch.bfloat16) for tensor in make(900, 6, hidden))
    lengths = ragged(900, 6).to(cuda)
    together = run(gru_scan, *leaves, lengths, grad)
    first, *weights = leaves
    for clips in (slice(0, 8), slice(456, 463), slice(896, 900)):
        alone = run(gru_scan, first[clips], *weights, lengths[clips], grad[clips])
        assert all(torch.equal(part, whole[clips]) for part, whole in zip(alone[:2], together[:2], strict=True))


def test_a_cuda_graph_follows_the_lengths(cuda):
    projected, w_hh, b_hh, grad = (tensor.to(cuda, torch.float32) for tensor in make(12, 9, 64))
    leaf, lengths = projected.clone().requires_grad_(), torch.zeros(12, dtype=torch.int64, device=cuda)

    def step():
        outputs = gru_scan(leaf, w_hh, b_hh, lengths)
        return outputs, *torch.autograd.grad(outputs, leaf, grad)

    stream = torch.cuda.Stream(cuda)
    stream.wait_stream(torch.cuda.current_stream(cuda))
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream(cuda).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    for seed in range(3):
        lengths.copy_(torch.randint(0, 10, (12,), generator=torch.Generator().manual_seed(seed)))
        graph.replay()
        assert all(map(torch.equal, captured, step()))


def test_runs_on_the_current_stream(cuda):
    projected, w_hh, b_hh, _ = (tensor.to(cuda, torch.float32) for tensor in make(16, 9, 64))
    want = gru_scan(2 * projected, w_hh, b_hh)
    stream = torch.cuda.Stream(cuda)
    stream.wait_stream(torch.cuda.current_stream(cuda))
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        projected *= 2  # seen only by work that waits in line behind it
        got = gru_scan(projected, w_hh, b_hh)
    stream.synchronize()
    assert torch.equal(got, want)


def test_runs_on_the_device_of_its_input(cuda):
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    *leaves, _ = (tensor.to("cuda:1", torch.float32) for tensor in make(4, 9, 6))
    torch.testing.assert_close(gru_scan(*leaves), reference.gru_scan(*leaves))
