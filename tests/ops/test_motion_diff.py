import pytest
import torch

from crrl_fast import reference
from crrl_fast.ops import motion_diff
from tests.property_based import HealthCheck, given, settings, st

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]

# Views as users make them: some keep the coordinates of a frame side by side and are read in place, the others do not.
# Each is cut from what `new` makes, because a view that changes dtype or device is made contiguous on the way.
VIEWS = {
    "contiguous": lambda new, b, t, d: new(b, t, *d),
    "time_major": lambda new, b, t, d: new(t, b, *d).transpose(0, 1),
    "frame_slice": lambda new, b, t, d: new(b, 2 * t, *d)[:, 1::2],
    "clip_slice": lambda new, b, t, d: new(2 * b, t, *d)[::2],
    "misaligned": lambda new, b, t, d: new(torch.Size((b, t, *d)).numel() + 1)[1:].view(b, t, *d),
    "repeated_clip": lambda new, b, t, d: new(1, t, *d).expand(b, t, *d),
    "coords_first": lambda new, b, t, d: new(*d, b, t).movedim((-2, -1), (0, 1)),
    "coords_slice": lambda new, b, t, d: new(b, t, *d, 2)[..., 1],
}


def make(view, shape, device, dtype=torch.float32):
    """Return normal values of shape (B, T, ...) laid out as the view says."""
    clips, frames, *coords = shape
    return VIEWS[view](lambda *size: torch.randn(size).to(device, dtype), clips, frames, tuple(coords))


def ragged(clips: int, frames: int) -> torch.Tensor:
    """Return lengths that include an empty clip, one frame, and all frames."""
    return torch.arange(clips).mul(3).remainder(frames + 1)


def poison(x: torch.Tensor, lengths: torch.Tensor) -> None:
    """Put NaN into the padding, where clips do not share their memory."""
    if x.stride(0) != 0:
        x[torch.arange(x.shape[1], device=x.device) >= lengths.to(x.device)[:, None]] = torch.nan


def by_the_definition(x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
    """Say it once more, frame by frame in float64."""
    x = x.cpu()
    y = torch.zeros(x.shape, dtype=torch.float64)
    for clip in range(x.shape[0]):
        for frame in range((x.shape[1] if lengths is None else int(lengths[clip])) - 1):
            y[clip, frame] = x[clip, frame + 1].double() - x[clip, frame].double()
    return y


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("coords", [(), (1,), (7,), (8,), (25, 3), (2, 25, 3)])
def test_equals_the_definition(device, dtype, view, coords):
    for frames in (0, 1, 2, 7, 8, 9, 17):
        x, lengths = make(view, (4, frames, *coords), device, dtype), ragged(4, frames)
        torch.testing.assert_close(motion_diff(x).cpu(), by_the_definition(x).to(dtype), rtol=0, atol=0)
        poison(x, lengths)
        y = motion_diff(x, lengths.to(device))
        assert y.is_contiguous()
        torch.testing.assert_close(y.cpu(), by_the_definition(x, lengths).to(dtype), rtol=0, atol=0)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_ragged_batches_equal_the_reference(device, data):
    clips, frames = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 20))
    coords = tuple(data.draw(st.lists(st.integers(0, 6), max_size=3)))
    lengths = torch.tensor(
        data.draw(st.lists(st.integers(0, frames), min_size=clips, max_size=clips)), dtype=torch.int64
    )
    dtype = data.draw(st.sampled_from(DTYPES))
    x = make(data.draw(st.sampled_from(list(VIEWS))), (clips, frames, *coords), device, dtype)
    grad = make(data.draw(st.sampled_from(list(VIEWS))), (clips, frames, *coords), device, dtype)
    poison(x, lengths)
    x.requires_grad_()
    y, expected = motion_diff(x, lengths.to(device)), reference.motion_diff(x, lengths.to(device))
    assert torch.equal(y, expected)
    assert torch.equal(*(torch.autograd.grad(result, x, grad)[0] for result in (y, expected)))


@pytest.mark.parametrize("size", [255, 256, 257])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sizes_around_a_block(device, size, dtype):
    # 256 threads a block, 8 frames a thread: clips, frames and coordinates each cross that edge in turn.
    for shape in [(size, 2, 1), (1, 8 * size, 1), (1, 2, size), (3, 9, size)]:
        x = torch.randn(shape).to(dtype)
        torch.testing.assert_close(motion_diff(x.to(device)).cpu(), reference.motion_diff(x), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_within_the_naive_error(device, dtype):
    # Neighbouring frames that almost agree: what is lost here is what a velocity suffers from.
    x = (torch.randn(8, 1, 150) + 0.01 * torch.randn(8, 40, 150)).to(dtype)
    grad = torch.randn(x.shape).to(dtype)
    lengths = ragged(8, 40)

    def errors(op, device):
        leaf = x.to(device).requires_grad_()
        y = op(leaf, lengths.to(device))
        (grad_x,) = torch.autograd.grad(y, leaf, grad.to(device))
        return [(got.detach().cpu().double() - want).abs().max() for got, want in zip((y, grad_x), truth, strict=True)]

    exact = x.double().requires_grad_()
    truth_y = reference.motion_diff(exact, lengths)
    truth = (truth_y.detach(), *torch.autograd.grad(truth_y, exact, grad.double()))
    for ours, naive in zip(errors(motion_diff, device), errors(reference.motion_diff, device), strict=True):
        assert ours <= naive + 1e-7


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("with_lengths", [False, True])
def test_opcheck(device, view, with_lengths):
    x = make(view, (4, 9, 3, 5), device)
    lengths = ragged(4, 9).to(device) if with_lengths else None
    torch.library.opcheck(torch.ops.crrl_fast.motion_diff, (x.requires_grad_(), lengths))
    torch.library.opcheck(torch.ops.crrl_fast.motion_diff_backward, (x.detach().requires_grad_(), lengths))


@pytest.mark.parametrize("view", ["contiguous", "time_major", "coords_first"])
@pytest.mark.parametrize("with_lengths", [False, True])
def test_gradients(device, view, with_lengths):
    x = make(view, (4, 5, 3), device, torch.float64).requires_grad_()
    lengths = ragged(4, 5).to(device) if with_lengths else None
    assert torch.autograd.gradcheck(motion_diff, (x, lengths))
    assert torch.autograd.gradgradcheck(motion_diff, (x, lengths))


def test_padding_gets_no_gradient_even_from_nan(device):
    x = torch.randn(2, 6, 4, device=device, requires_grad=True)
    lengths = torch.tensor([6, 3], device=device)
    grad = torch.ones(2, 6, 4, device=device)
    grad[1, 2:] = torch.nan
    (grad_x,) = torch.autograd.grad(motion_diff(x, lengths), x, grad)
    assert torch.equal(grad_x[1].cpu(), torch.tensor([-1.0, 0, 1, 0, 0, 0])[:, None].expand(6, 4))


@pytest.mark.parametrize(("backend", "dynamic"), [("inductor", False), ("aot_eager", False), ("aot_eager", True)])
def test_compiles_as_one_graph(device, backend, dynamic):
    def step(x, lengths):
        return motion_diff(x * 2, lengths).square().sum()

    compiled = torch.compile(step, fullgraph=True, backend=backend, dynamic=dynamic)
    for clips, frames in [(4, 9), (5, 12)]:
        x = make("coords_first", (clips, frames, 6), device)
        lengths = ragged(clips, frames).to(device)
        eager, traced = x.clone().requires_grad_(), x.clone().requires_grad_()
        expected, got = step(eager, lengths), compiled(traced, lengths)
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(torch.autograd.grad(got, traced), torch.autograd.grad(expected, eager))


def test_same_bits_every_time(device):
    x, lengths = torch.randn(64, 60, 150, device=device), ragged(64, 60).to(device)
    first = motion_diff(x, lengths)
    assert all(torch.equal(first, motion_diff(x, lengths)) for _ in range(5))


BAD_INPUTS = {
    "one dimension": ((torch.zeros(3),), ValueError, r"at least 2 dimensions \(B, T, \.\.\.\), got shape \[3\]"),
    "integers": ((torch.zeros(3, 4, dtype=torch.int32),), TypeError, "x must be float32, .* got int32"),
    "complex": ((torch.zeros(3, 4, dtype=torch.complex64),), TypeError, "got complex64"),
    "int32 lengths": (
        (torch.zeros(2, 4), torch.zeros(2, dtype=torch.int32)),
        TypeError,
        "lengths must be int64, got int32",
    ),
    "too few lengths": ((torch.zeros(3, 4), torch.zeros(2).long()), ValueError, r"shape \[3\], got \[2\]"),
    "lengths of two dimensions": ((torch.zeros(2, 4), torch.zeros(2, 1).long()), ValueError, r"got \[2, 1\]"),
    "lengths elsewhere": ((torch.zeros(1, 4), torch.zeros(1).long().to("meta")), ValueError, "on cpu, got meta"),
    "a length over T": ((torch.zeros(2, 4), torch.tensor([4, 5])), ValueError, r"lengths\[1\] = 5 is outside \[0, 4\]"),
    "a length under 0": ((torch.zeros(2, 4), torch.tensor([-1, 0])), ValueError, r"lengths\[0\] = -1 is outside"),
}


@pytest.mark.parametrize("op", [motion_diff, reference.motion_diff], ids=["op", "reference"])
@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_is_named(op, name):
    arguments, error, message = BAD_INPUTS[name]
    with pytest.raises(error, match=message):
        op(*arguments)


def test_lengths_on_a_gpu_are_clamped(cuda):
    x = torch.randn(3, 5, 2, device=cuda)
    got = motion_diff(x, torch.tensor([-7, 3, 99], device=cuda))
    assert torch.equal(got, reference.motion_diff(x, torch.tensor([0, 3, 5], device=cuda)))


def test_runs_on_the_current_stream(cuda):
    x = torch.zeros(64, 300, 150, device=cuda)
    stream = torch.cuda.Stream(cuda)
    stream.wait_stream(torch.cuda.current_stream(cuda))
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        x[:, 1::2] = 1  # seen only by work that waits in line behind it
        y = motion_diff(x)
    stream.synchronize()
    assert torch.equal(y, reference.motion_diff(x))


def test_runs_on_the_device_of_its_input(cuda):
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    x = torch.randn(4, 9, 6, device="cuda:1")
    assert torch.equal(motion_diff(x), reference.motion_diff(x))


def test_more_than_two_to_the_31_elements(cuda):
    free, _ = torch.cuda.mem_get_info(cuda)
    if free < 12 * 2**30:
        pytest.skip("too little GPU memory")
    x = torch.zeros(1, 2**16 + 9, 2**15, dtype=torch.bfloat16, device=cuda)
    x[0, -1] = 1
    y = motion_diff(x)
    assert y[0, -2].eq(1).all()
    assert y[0, :-2].count_nonzero() == 0
    assert y[0, -1].count_nonzero() == 0
