"""What a composition of parts comes to, and which ones are refused."""

import pytest
import torch

from crrl_fast.errors import ConfigError, DataError
from crrl_fast.reference import skeleton_views
from crrl_fast.views import (
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
    TempoCrop,
    TimeFlip,
    Turn,
    sample_view_params,
)

LENGTHS = torch.full((6,), 20)


def apply(frames, part, seed=0):
    params = sample_view_params(part, LENGTHS, "ntu25", torch.Generator().manual_seed(seed))
    offsets = torch.arange(7) * 20
    return skeleton_views(frames, offsets, torch.arange(6), params).coords.flatten(0, 1), params


@pytest.mark.parametrize(
    "parts",
    [
        (MirrorPaddedCrop(), TimeFlip(p=1), TimeFlip(p=1)),
        (Shear(), Rotation(), MirrorPaddedCrop()),
        (Turn(), Shear(), Turn(degrees=90, tilt=0)),
        (Shear(), Scale(per_axis=True, low=0.5, high=2)),
        (OriginJoint(), SpatialFlip(p=1), Rotation()),
        (SpatialFlip(p=1), OriginJoint(joint=4), Shear()),
        (Shear(), OriginJoint(joint=None)),
        (Shear(), JointCorruption(), Rotation()),
        (JointMask(), SpatialFlip(p=1), Shear()),
        (JointCorruption(share=(0.2, 0.8)), SpatialFlip(p=1), SpatialFlip(p=1)),
        (Blur(), Shear(), TimeFlip(p=1), AxisMask(p=1)),
        (Blur(), JointMask()),
        (Blur(sigma=(2, 2)), SpatialFlip(p=1, negate=0)),
    ],
    ids=lambda parts: "+".join(type(part).__name__ for part in parts),
)
def test_a_composition_is_its_parts_one_after_the_other(parts):
    # Every part draws from the generator what it draws alone, so that the two ways of applying them agree.
    torch.manual_seed(0)
    frames = torch.randn(120, 150, dtype=torch.float64)
    together, _ = apply(frames, Compose(parts))

    class Draws:
        def __init__(self):
            self.generator = torch.Generator().manual_seed(0)

        def step(self, frames, part):
            params = sample_view_params(part, LENGTHS, "ntu25", self.generator)
            return skeleton_views(frames, torch.arange(7) * 20, torch.arange(6), params).coords.flatten(0, 1)

    draws, one_by_one = Draws(), frames
    for part in parts:
        one_by_one = draws.step(one_by_one, part)
    torch.testing.assert_close(together, one_by_one, atol=1e-5, rtol=1e-5)


def test_an_axis_mask_silences_the_noise_before_it():
    coords, params = apply(torch.randn(120, 150), Compose((Noise(std=1), AxisMask(p=1))))
    masked = params.matrix.abs().sum(2) == 0
    assert (coords.view(6, -1, 3).abs().sum(1) == 0).equal(masked)


def test_one_of_takes_each_as_often():
    choice = OneOf(
        (Scale(low=2, high=2), Scale(low=3, high=3), Noise(std=0.1), Noise(std=0.2), Blur(size=3), Blur(size=7))
    )
    params = sample_view_params(choice, torch.full((6000,), 9), "ntu25")
    factor = params.matrix[:, 0, 0]
    kinds = [factor == 2, factor == 3, params.noise_std[:, 0] == 0.1, params.noise_std[:, 0] == 0.2]
    kinds = torch.stack(kinds)
    assert kinds.sum(0).max() == 1
    assert ((kinds.sum(1) - 1000).abs() < 150).all()


REFUSED = {
    "Shear cannot come after noise: put it before the noise": (Noise(), Shear()),
    "Rotation cannot come after noise": (Noise(), Blur(), Rotation()),
    "JointMask cannot come after noise: use one, before the noise": (Noise(), JointMask()),
    "JointCorruption cannot come after a change of some joints": (JointMask(), JointCorruption()),
    "OriginJoint cannot come after a change of some joints": (JointMask(), OriginJoint()),
    "Crop cannot come after a temporal crop: put the one crop first": (CropResize(), Crop(frames=3)),
    "MirrorPaddedCrop cannot come after a time flip": (TimeFlip(), MirrorPaddedCrop()),
    "CropResize cannot come after a blur": (Blur(), CropResize()),
    "Noise cannot come after a blur: use one, before the blur": (Blur(), Noise()),
    "Blur cannot come after a blur: use one": (Blur(), Shear(), Blur()),
    "Shear cannot come after noise: put it": (Compose((Noise(),)), OneOf((Blur(), Shear()))),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_one_pass_cannot_do_is_refused(message):
    with pytest.raises(ConfigError, match=message):
        Compose(REFUSED[message])


BAD_FIELDS = {
    r"Shear: p must be within \[0, 1\], got 2": lambda: Shear(p=2),
    r"Crop: frames must be at least 1, got 0": lambda: Crop(frames=0),
    r"MirrorPaddedCrop: ratio must be at least 1": lambda: MirrorPaddedCrop(ratio=0),
    r"CropResize: ratio must rise within \(0, 1\], got \(0.5, 0.1\)": lambda: CropResize(ratio=(0.5, 0.1)),
    r"CropResize: min_frames must be at least 1": lambda: CropResize(min_frames=0),
    r"SpatialFlip: negate must be None, 0, 1 or 2, got 3": lambda: SpatialFlip(negate=3),
    r"JointMask: share must rise within \[0, 1\]": lambda: JointMask(share=(0.5, 1.5)),
    r"Scale: low and high must rise from 0, got 2 and 1": lambda: Scale(low=2, high=1),
    r"Noise: std must be 0 or more, got -1": lambda: Noise(std=-1),
    r"Blur: sigma must rise from above 0": lambda: Blur(sigma=(0, 1)),
    r"Blur: size must be odd, 1 to 63, got 8": lambda: Blur(size=8),
    r"OneOf: there is nothing to choose from": lambda: OneOf(()),
}


@pytest.mark.parametrize("message", BAD_FIELDS)
def test_a_field_out_of_range_is_named(message):
    with pytest.raises(ConfigError, match=message):
        BAD_FIELDS[message]()


@pytest.mark.parametrize("joint", [25, -1, "tail"])
def test_an_origin_that_the_layout_lacks_is_named(joint):
    with pytest.raises(DataError, match=f"OriginJoint: layout 'ntu25' has no joint {joint!r}"):
        sample_view_params(OriginJoint(joint=joint), LENGTHS, "ntu25")


def test_an_origin_by_name():
    assert sample_view_params(OriginJoint(joint="neck"), LENGTHS, "ntu25").origin.eq(2).all()


def test_a_turn_is_about_the_vertical_and_then_about_x():
    params = sample_view_params(Turn(degrees=30, tilt=10), torch.full((2000,), 9), "ntu25")
    matrix = params.matrix.double()
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).double().expand(2000, 3, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(2000).double(), atol=1e-6, rtol=0)
    turned = torch.rad2deg(torch.atan2(matrix[:, 0, 2], matrix[:, 0, 0]))
    tilted = torch.rad2deg(torch.atan2(matrix[:, 2, 1], matrix[:, 1, 1]))
    assert (matrix[:, 0, 1] == 0).all()
    for angle, most in ((turned, 30), (tilted, 10)):
        assert -most <= angle.min() < -0.9 * most
        assert 0.9 * most < angle.max() <= most


def test_a_tempo_crop_cuts_a_share_and_plays_it_at_another_pace():
    lengths = torch.tensor([1, 2, 7, 60]).repeat(500)
    params = sample_view_params(TempoCrop(share=(0.5, 1.0), tempo=(0.8, 1.25)), lengths, "ntu25")
    crop = params.span + 1
    assert ((params.start >= 0) & (params.start + crop <= lengths)).all()
    assert ((params.lengths >= 1) & (params.lengths <= lengths)).all()
    of_60, frames = crop[lengths == 60], params.lengths[lengths == 60]
    assert (of_60.min(), of_60.max()) == (30, 60)
    pace = frames / of_60
    assert 0.78 <= pace.min() < 0.85
    assert 1.2 < pace.max() <= 1.27
    assert ((pace > 1.2) & (of_60 > 50)).sum() == 0  # a view never outgrows its clip


@pytest.mark.parametrize(
    ("part", "fields", "message"),
    [
        (Turn, {"degrees": 200}, "degrees must be within"),
        (Turn, {"tilt": -1}, "tilt must be within"),
        (TempoCrop, {"share": (0, 1)}, "share must rise within"),
        (TempoCrop, {"tempo": (1, 0.5)}, "tempo must rise from above 0"),
    ],
)
def test_turns_and_tempos_out_of_range_are_refused(part, fields, message):
    with pytest.raises(ConfigError, match=message):
        part(**fields)
