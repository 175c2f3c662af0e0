from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from crrl_fast import _ext, reference
from crrl_fast.ops import gru_scan, gru_scan_supported
from crrl_fast.ops.gru_scan import LARGEST_IN_A_BLOCK, LARGEST_IN_A_CLUSTER
from tests.ops.gru_scan_cases import by_nn_gru, errors, make, ragged, run
from tests.property_based import HealthCheck, given, settings, st

HALVES = (torch.float16, torch.bfloat16)
# Around the 16 units of a warp, the widths that are compiled, and one block; 60 and 150 are decoders of skeletons.
HIDDEN = [1, 2, 15, 16, 17, 60, 63, 64, 65, 100, 127, 128, 129, 150, 192, 193, 255, 256]


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
