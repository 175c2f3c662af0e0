from itertools import islice

import pytest
import torch

from crrl_fast import reference
from crrl_fast.data.catalog import open_recording
from crrl_fast.ops import ViewParams, sample_view_params, skeleton_views
from crrl_fast.views import (
    PRESETS,
    AxisMask,
    Blur,
    Compose,
    Crop,
    CropResize,
    JointCorruption,
    JointMask,
    MirrorPaddedCrop,
    Noise,
    OneOf,
    OriginJoint,
    Rotation,
    Scale,
    Shear,
    SpatialFlip,
    TimeFlip,
)
from tests.property_based import HealthCheck, given, settings, st

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
PARTS = {
    "mirror padded crop": MirrorPaddedCrop(),
    "crop": Crop(frames=9),
    "crop resize": CropResize(frames=33, min_frames=2),
    "time flip": TimeFlip(),
    "spatial flip": SpatialFlip(negate=0),
    "origin": OriginJoint(joint=None),
    "shear": Shear(),
    "rotation": Rotation(),
    "scale": Scale(low=0.5, high=2, per_axis=True),
    "axis mask": AxisMask(),
    "joint mask": JointMask(share=(0, 1)),
    "joint corruption": JointCorruption(),
    "noise": Noise(std=1),
    "blur": Blur(size=15),
    "widest blur": Blur(sigma=(9, 9), size=63),
    "one of": OneOf((Shear(), JointMask(), Compose((Noise(), Blur(size=3))))),
}
EVERYTHING = Compose(
    (
        CropResize(frames=40, ratio=(0.3, 1.0), min_frames=1),
        OriginJoint(),
        SpatialFlip(),
        JointCorruption(p=0.5),
        Rotation(),
        TimeFlip(),
        Noise(std=0.1),
        Blur(p=0.7),
        AxisMask(p=0.3),
    )
)

# Stores as users may have them; the last is not read in place.
STORES = {
    "contiguous": lambda new, f, d: new(f, d),
    "row slice": lambda new, f, d: new(2 * f, d)[::2],
    "column slice": lambda new, f, d: new(f, d + 3)[:, 3:],
    "transposed": lambda new, f, d: new(d, f).T,
}
LENGTHS = [1, 2, 5, 31, 32, 33, 63, 64, 65, 129]  # straddle the GPU's tiles of 32 and 64 frames


def make_store(device, dtype=torch.float32, *, coords=150, lengths=LENGTHS, store="contiguous"):
    """Return frames (F, D) and offsets of clips of those lengths."""
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    frames = STORES[store](lambda *size: torch.randn(size).to(device, dtype), int(offsets[-1]), coords)
    return frames, offsets.to(device)


def draw(preset, offsets, index, *, layout="ntu25", seed=0, compat=False):
    lengths = offsets.diff().cpu()[index.cpu()]
    params = sample_view_params(preset, lengths, layout, torch.Generator().manual_seed(seed), compat=compat)
    return params.to(offsets.device)


def assert_agree(got, expected, tolerance):
    """Compare coords and velocity; what is not computed, or is zero for its place, must be so exactly."""
    assert torch.equal(got.lengths, expected.lengths)
    for ours, theirs in zip(got[:2], expected[:2], strict=True):
        assert ours.is_contiguous()
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours.double(), theirs.double(), atol=tolerance, rtol=tolerance)


# A value that is rounded to the other side of a tie is off by one unit in the last place. Noise is float32 always.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("preset", [*PRESETS.values(), *PARTS.values(), EVERYTHING], ids=[*PRESETS, *PARTS, "all"])
@pytest.mark.parametrize("compat", [False, True])
def test_equals_the_reference(device, dtype, preset, compat):
    frames, offsets = make_store(device, dtype)
    index = torch.arange(len(LENGTHS), device=device).repeat(2).flip(0)
    params = draw(preset, offsets, index, compat=compat)
    got, expected = (op(frames, offsets, index, params) for op in (skeleton_views, reference.skeleton_views))
    assert_agree(got, expected, TOLERANCE[dtype] * (5 if compat else 1))


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(("layout", "bodies"), [("ntu25", 1), ("ntu25", 2), ("kinect20", 1), ("kinect20", 3)])
def test_stores_and_layouts(device, store, layout, bodies):
    coords = bodies * 3 * int(layout[-2:])
    for dtype in DTYPES:
        frames, offsets = make_store(device, dtype, coords=coords, store=store)
        index = torch.arange(len(LENGTHS), device=device)
        params = draw(EVERYTHING, offsets, index, layout=layout)
        expected = reference.skeleton_views(frames, offsets, index, params, out_frames=70)
        assert_agree(skeleton_views(frames, offsets, index, params, out_frames=70), expected, TOLERANCE[dtype])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_parameters_by_hand_equal_the_reference(device, data):
    joints, bodies = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 2))
    lengths = data.draw(st.lists(st.integers(1, 70), min_size=1, max_size=4))
    views = data.draw(st.integers(0, 5))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))

    def integers(low, high, *size):
        return torch.randint(low, high + 1, size, generator=generator).to(device)

    def normals(*size):
        return torch.randn(*size, generator=generator).to(device)

    frames, offsets = make_store(device, coords=3 * joints * bodies, lengths=lengths)
    params = ViewParams(
        joints,
        integers(0, 70, views),
        integers(-99, 99, views),
        integers(-99, 99, views),
        partner=torch.randperm(joints, generator=generator).to(device),
        mirror=integers(0, 1, views).bool(),
        origin=integers(-1, joints - 1, views),
        matrix=normals(views, 3, 3),
        joints=integers(0, 1, views, joints).bool(),
        joint_matrix=normals(views, 3, 3),
        noise_std=normals(views, 3).abs(),
        seed=integers(-(2**62), 2**62, views),
        blur=normals(views, data.draw(st.integers(1, 32))).abs() + 0.1,
        normalize_blur=data.draw(st.booleans()),
    )
    optional = ["mirror", "origin", "matrix", "joints", "noise_std", "blur"]
    params = params._replace(**{name: None for name in optional if data.draw(st.booleans())})
    index = integers(0, len(lengths) - 1, views)
    got, expected = (
        op(frames, offsets, index, params, out_frames=75) for op in (skeleton_views, reference.skeleton_views)
    )
    assert_agree(got, expected, 1e-4)


def test_a_real_clip(device, real_data):
    recording, _ = open_recording("ucla", real_data("nw_ucla_all_sqe.zip"))
    clips = list(islice(recording.clips, 6))
    frames = torch.cat([torch.tensor(clip.coords).flatten(1) for clip in clips]).to(device)
    offsets = torch.tensor([0, *(len(clip.coords) for clip in clips)], device=device).cumsum(0)
    index = torch.arange(6, device=device)
    plain = skeleton_views(frames, offsets, index, draw("none", offsets, index, layout="kinect20"))
    for view, length, clip in zip(plain.coords, plain.lengths, clips, strict=True):
        assert torch.equal(view[:length].cpu(), torch.tensor(clip.coords).flatten(1))
        assert view[length:].count_nonzero() == 0
    for preset in PRESETS:
        params = draw(preset, offsets, index, layout="kinect20")
        expected = reference.skeleton_views(frames, offsets, index, params)
        assert_agree(skeleton_views(frames, offsets, index, params), expected, 1e-4)


def test_a_view_does_not_depend_on_its_batch(device):
    frames, offsets = make_store(device)
    index = torch.arange(len(LENGTHS), device=device).repeat(3)
    params = draw(EVERYTHING, offsets, index)
    whole = skeleton_views(frames, offsets, index, params, out_frames=64)
    some = torch.tensor([25, 0, 13, 13], device=device)
    part = skeleton_views(frames, offsets, index[some], params.select(some), out_frames=64)
    assert all(torch.equal(a[some], b) for a, b in zip(whole, part, strict=True))


def test_same_bits_every_time_and_for_any_number_of_threads(device):
    frames, offsets = make_store(device)
    index = torch.arange(len(LENGTHS), device=device).repeat(20)
    params = draw(EVERYTHING, offsets, index)
    first = skeleton_views(frames, offsets, index, params)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            again = skeleton_views(frames, offsets, index, params)
            assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    finally:
        torch.set_num_threads(before)


def test_devices_agree(cuda):
    frames, offsets = make_store("cpu")
    index = torch.arange(len(LENGTHS)).repeat(3)
    params = draw(EVERYTHING, offsets, index)
    here = skeleton_views(frames, offsets, index, params)
    there = skeleton_views(frames.to(cuda), offsets.to(cuda), index.to(cuda), params.to(cuda))
    for ours, theirs in zip(here, there, strict=True):
        torch.testing.assert_close(ours, theirs.cpu(), atol=1e-5, rtol=1e-5)


def test_a_body_at_rest_stays_at_rest_under_the_blur(device):
    frames = torch.randn(1, 150, device=device).expand(40, 150)
    offsets, index = torch.tensor([0, 40], device=device), torch.zeros(1, dtype=torch.int64, device=device)
    params = draw(Blur(sigma=(2, 2)), offsets, index)
    views = skeleton_views(frames, offsets, index, params)
    torch.testing.assert_close(views.coords[0], frames, atol=0, rtol=1e-6)
    assert views.velocity.abs().max() < 1e-5
    compat = skeleton_views(frames, offsets, index, params._replace(normalize_blur=False))
    torch.testing.assert_close(compat.coords[0, 20], 5.01 * frames[20], atol=0, rtol=1e-2)
    torch.testing.assert_close(compat.coords[0, 0], 3.01 * frames[0], atol=0, rtol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_within_the_naive_error(device, dtype):
    frames, offsets = make_store(device, dtype)
    index = torch.arange(len(LENGTHS), device=device)
    params = draw(Compose((MirrorPaddedCrop(), Shear(), Blur())), offsets, index)
    truth = reference.skeleton_views(frames.double(), offsets, index, params)
    ours, naive = (op(frames, offsets, index, params) for op in (skeleton_views, reference.skeleton_views))
    for got, plain, exact in zip(ours[:2], naive[:2], truth[:2], strict=True):
        assert (got.double() - exact).abs().max() <= (plain.double() - exact).abs().max() + 1e-6


def test_frames_that_are_not_read_may_be_nan(device):
    frames, offsets = make_store(device, lengths=[5, 9, 5])
    frames[:5] = frames[14:] = torch.nan
    index = torch.ones(4, dtype=torch.int64, device=device)
    views = skeleton_views(frames, offsets, index, draw(EVERYTHING, offsets, index), out_frames=64)
    assert views.coords.isfinite().all()
    assert views.velocity.isfinite().all()


def arguments(frames, offsets, index, params, out_frames):
    return (frames, offsets, index, *params, out_frames)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("preset", ["none", "aimclr-strong", "skeleton-contrast"])
def test_opcheck(device, store, preset):
    frames, offsets = make_store(device, store=store)
    index = torch.arange(4, device=device)
    given = arguments(frames, offsets, index, draw(preset, offsets, index), 70)
    torch.library.opcheck(torch.ops.crrl_fast.skeleton_views, given)


@pytest.mark.parametrize(("backend", "dynamic"), [("inductor", False), ("aot_eager", False), ("aot_eager", True)])
def test_compiles_as_one_graph(device, backend, dynamic):
    def step(frames, offsets, index, params):
        views = skeleton_views(frames * 2, offsets, index, params, out_frames=70)
        return (views.coords + views.velocity).square().sum((1, 2)), views.lengths

    compiled = torch.compile(step, fullgraph=True, backend=backend, dynamic=dynamic)
    frames, offsets = make_store(device)
    for views in (4, 7):
        index = torch.arange(views, device=device)
        params = draw(EVERYTHING, offsets, index)
        expected, got = step(frames, offsets, index, params), compiled(frames, offsets, index, params)
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("preset", ["none", "aimclr-strong", "skeleton-contrast", "as-cal"])
def test_the_reference_compiles_as_one_graph(preset):
    frames, offsets = make_store("cpu")
    index = torch.arange(5)
    params = draw(preset, offsets, index)
    compiled = torch.compile(reference.skeleton_views, fullgraph=True, backend="aot_eager")
    expected = reference.skeleton_views(frames, offsets, index, params, out_frames=70)
    torch.testing.assert_close(compiled(frames, offsets, index, params, out_frames=70), expected)


def test_empty_batches_keep_their_shape(device):
    frames, offsets = make_store(device)
    index = torch.zeros(0, dtype=torch.int64, device=device)
    params = draw(EVERYTHING, offsets, index)
    assert skeleton_views(frames, offsets, index, params).coords.shape == (0, 0, 150)
    assert skeleton_views(frames, offsets, index, params, out_frames=7).velocity.shape == (0, 7, 150)


FRAMES, OFFSETS, INDEX = torch.zeros(9, 150), torch.tensor([0, 4, 9]), torch.tensor([1, 0])
PARAMS = ViewParams(25, torch.tensor([5, 4]), torch.tensor([0, 0]), torch.tensor([4, 3]))
SEED, STD = torch.tensor([1, 2]), torch.ones(2, 3)
BAD_INPUTS = {
    "frames of three dimensions": ({"frames": torch.zeros(9, 2, 75)}, ValueError, r"frames must have shape \[F, D\]"),
    "integer frames": ({"frames": FRAMES.int()}, TypeError, "frames must be float32, .* got int32"),
    "frames with grad": ({"frames": torch.zeros(9, 150, requires_grad=True)}, ValueError, "is not differentiable"),
    "other joints": ({"frames": torch.zeros(9, 60)}, ValueError, r"multiple of 25 joints \* 3 columns, got 60"),
    "no joints": ({"num_joints": 0}, ValueError, "multiple of 0 joints"),
    "no offsets": ({"offsets": torch.zeros(0).long()}, ValueError, r"offsets must have shape \[N \+ 1\], got \[0\]"),
    "no clips": ({"offsets": torch.zeros(1).long()}, ValueError, "offsets must name at least one clip, got none"),
    "int32 index": ({"index": INDEX.int()}, TypeError, "index must be int64, got int32"),
    "index of two dimensions": ({"index": INDEX[None]}, ValueError, r"index must have shape \[2\], got \[1, 2\]"),
    "too few lengths": ({"lengths": torch.tensor([5])}, ValueError, r"lengths must have shape \[2\], got \[1\]"),
    "float64 matrix": ({"matrix": torch.eye(3).double().repeat(2, 1, 1)}, TypeError, "matrix must be float32"),
    "wide joints": ({"joints": torch.zeros(2, 24).bool()}, ValueError, r"joints must have shape \[2, 25\]"),
    "seed elsewhere": ({"noise_std": STD, "seed": SEED.to("meta")}, ValueError, "seed must be on cpu, got meta"),
    "a blur too wide": ({"blur": torch.ones(2, 33)}, ValueError, "blur must have 1 to 32 weights, got 33"),
    "mirror alone": ({"mirror": torch.ones(2).bool()}, ValueError, "mirror is given without partner"),
    "joints alone": ({"joints": torch.ones(2, 25).bool()}, ValueError, "joints is given without joint_matrix"),
    "noise alone": ({"noise_std": STD}, ValueError, "noise_std is given without seed"),
    "negative frames": ({"out_frames": -1}, ValueError, "out_frames must be 0 or more, got -1"),
    "an index too large": ({"index": torch.tensor([1, 2])}, ValueError, r"index\[1\] = 2 is outside \[0, 2\)"),
    "an index under 0": ({"index": torch.tensor([-1, 0])}, ValueError, r"index\[0\] = -1 is outside \[0, 2\)"),
    "falling offsets": (
        {"offsets": torch.tensor([0, 9, 4])},
        ValueError,
        r"offsets\[1\] = 9 and offsets\[2\] = 4 do not rise within \[0, 9\]",
    ),
    "offsets past the end": ({"offsets": torch.tensor([0, 4, 10])}, ValueError, r"offsets\[2\] = 10 do not rise"),
    "a clip without frames": ({"offsets": torch.tensor([0, 4, 4])}, ValueError, r"index\[0\] = 1 is a clip without"),
    "a view too long": ({"out_frames": 4}, ValueError, r"lengths\[0\] = 5 is outside \[0, 4\]"),
    "a length under 0": ({"lengths": torch.tensor([-1, 4])}, ValueError, r"lengths\[0\] = -1 is outside \[0, 4\]"),
    "an unknown origin": ({"origin": torch.tensor([-1, 25])}, ValueError, r"origin\[1\] = 25 is outside \[-1, 25\)"),
    "an unknown partner": ({"partner": torch.full((25,), -1)}, ValueError, r"partner\[0\] = -1 is outside \[0, 25\)"),
}


@pytest.mark.parametrize("op", [skeleton_views, reference.skeleton_views], ids=["op", "reference"])
@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_is_named(op, name):
    change, error, message = BAD_INPUTS[name]
    given = {"frames": FRAMES, "offsets": OFFSETS, "index": INDEX, "out_frames": None} | change
    params = PARAMS._replace(**{key: given.pop(key) for key in change if key in ViewParams._fields})
    with pytest.raises(error, match=message):
        op(given["frames"], given["offsets"], given["index"], params, out_frames=given["out_frames"])


def test_values_on_a_gpu_are_clamped(cuda):
    frames, offsets = make_store(cuda, lengths=[4, 5])
    index = torch.tensor([-1, 99, 0], device=cuda)
    params = ViewParams(25, *torch.tensor([[4, 99, -2], [0, 0, 0], [3, 98, 0]], device=cuda))
    views = skeleton_views(frames, offsets, index, params, out_frames=6)
    assert views.lengths.tolist() == [4, 6, 0]
    assert torch.equal(views.coords[0, :4], frames[:4])
    assert torch.equal(views.coords[1, :5], frames[4:])
    assert views.coords[2].count_nonzero() == 0
    empty = skeleton_views(frames, torch.tensor([0, 0, 9], device=cuda), index, params, out_frames=6)
    assert empty.coords[0].count_nonzero() == 0


def test_runs_on_the_current_stream(cuda):
    frames = torch.zeros(64 * 300, 150, device=cuda)
    offsets, index = torch.arange(0, 64 * 300 + 1, 300, device=cuda), torch.arange(64, device=cuda)
    params = draw("none", offsets, index)
    stream = torch.cuda.Stream(cuda)
    stream.wait_stream(torch.cuda.current_stream(cuda))
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        frames += 1  # seen only by work that waits in line behind it
        views = skeleton_views(frames, offsets, index, params, out_frames=300)
    stream.synchronize()
    assert views.coords.eq(1).all()
