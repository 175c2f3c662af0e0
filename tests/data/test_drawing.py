import sys
from itertools import islice, pairwise

import numpy as np
import pytest

from crrl_fast.data.layouts import KINECT20, NTU25
from crrl_fast.data.synthetic import demo_clips
from crrl_fast.errors import ConfigError, CrrlError

pytest.importorskip("matplotlib", reason="drawing is an extra")

from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from crrl_fast.data.drawing import BODIES, draw_clip, draw_strip, project


@pytest.fixture(scope="module")
def walk():
    """Return (T, 1, 25, 3): a clip of the demo set in camera coordinates."""
    return next(demo_clips()).coords


@pytest.fixture(scope="module")
def pair():
    """Return (T, 2, 25, 3): two performers a metre apart, the second from the sixth frame on."""
    one, other = (clip.coords[:20, 0] for clip in islice(demo_clips(), 2))
    coords = np.stack([one, other + np.float32([1, 0, 0])], axis=1)
    coords[:5, 1] = 0
    return coords


def colours_in(picture):
    return {to_hex(np.array(colour) / 255).upper() for _, colour in picture.convert("RGB").getcolors(1 << 24)}


def test_a_strip_has_every_side_in_its_colour(tmp_path, pair):
    draw_clip(tmp_path / "deep" / "clip.png", pair, NTU25, "two")
    picture = Image.open(tmp_path / "deep" / "clip.png")
    assert picture.width == 14 * 130  # as wide as it gets
    assert picture.height < (2.0 + 0.32) * 130
    wanted = {colour for body in BODIES for colour in (body.left, body.right, body.middle)}
    assert wanted <= colours_in(picture)
    one = tmp_path / "one.png"
    draw_clip(one, pair[:1, :1], NTU25, "one")
    assert BODIES[1].left not in colours_in(Image.open(one))
    assert Image.open(one).size == (5.0 * 130, int((2.0 + 0.32) * 130))


@pytest.mark.parametrize("view", ["front", "side", "top"])
def test_an_animation_has_a_picture_a_frame(tmp_path, walk, view):
    path = tmp_path / "clip.gif"
    draw_clip(path, walk[:7], NTU25, "walk", view=view, fps=20)
    picture = Image.open(path)
    assert (picture.n_frames, picture.info["duration"], picture.info["loop"]) == (7, 50, 0)
    shown = []
    for frame in range(7):
        picture.seek(frame)
        shown.append(np.asarray(picture.convert("RGB")))
    assert shown[0].std() > 5
    assert all((a != b).any() for a, b in pairwise(shown))


@pytest.mark.parametrize("frames", [1, 2, 60])
def test_a_strip_of_any_length_in_given_axes(walk, frames):
    axes = Figure().add_subplot()
    coords = np.resize(walk, (frames, *walk.shape[1:]))
    ratio = draw_strip(axes, coords, NTU25, poses=6)
    assert [text.get_text() for text in axes.texts][-1] == str(frames)
    assert len(axes.texts) == min(frames, 6)
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert (right - left) / (top - bottom) == pytest.approx(ratio)
    assert axes.get_aspect() == 1


def standing(up=1.0, forward=1.0):
    """Return one frame of a body that stands along ``up * y`` and faces along ``forward * z``, its left hand raised."""
    pose = np.zeros((1, 1, 20, 3), dtype=np.float32)
    at = {joint: i for i, joint in enumerate(KINECT20.joints)}
    pose[0, 0, at["hip_center"]] = (0, 0.1 * up, 0)
    pose[0, 0, at["shoulder_center"]] = (0, 0.6 * up, 0)
    for side, sign in (("left", 1), ("right", -1)):
        pose[0, 0, at[f"hip_{side}"]] = (0.2 * sign * up * forward, 0.1 * up, 0)
    pose[0, 0, at["hand_left"]] = (0.5 * up * forward, up, 0.3 * forward)
    return pose, at


@pytest.mark.parametrize("up", [1, -1])
@pytest.mark.parametrize("forward", [1, -1])
def test_views_show_the_body_upright_and_from_its_front(up, forward):
    pose, at = standing(up, forward)
    hand = at["hand_left"]
    for view, expected in (("front", (0.5, 1.0)), ("side", (0.3, 1.0)), ("top", (0.5, -0.3))):
        flat, present = project(pose, KINECT20, view)
        assert flat[0, 0, hand] == pytest.approx(expected)
        assert present.tolist() == [[True]]


def test_what_cannot_be_drawn_is_said(tmp_path, walk):
    nan, nobody = walk.copy(), np.zeros_like(walk)
    nan[0, 0, 0, 0] = np.nan
    for path, coords, view, error, message in (
        ("clip.pdf", walk, "front", ConfigError, r"clip\.pdf: .*\.png.*\.gif"),
        ("clip.png", walk, "back", ConfigError, "'back': choose front, side, top"),
        ("clip.png", nan, "front", CrrlError, "not finite"),
        ("clip.gif", nobody, "front", CrrlError, "no body"),
    ):
        with pytest.raises(error, match=message):
            draw_clip(tmp_path / path, coords, NTU25, "x", view=view)
    assert not list(tmp_path.iterdir())


def test_an_unwritable_picture(tmp_path, walk):
    (tmp_path / "clip.png").mkdir()
    with pytest.raises(CrrlError, match=r"clip\.png: cannot be written"):
        draw_clip(tmp_path / "clip.png", walk[:2], NTU25, "x")


@pytest.mark.parametrize("missing", ["matplotlib", "PIL"])
def test_a_missing_package_is_named_with_its_cure(tmp_path, walk, monkeypatch, missing):
    for module in [name for name in sys.modules if name.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(CrrlError, match=rf"{missing}.*pip install 'crrl-fast\[plot\]'"):
        draw_clip(tmp_path / "clip.png", walk, NTU25, "x")


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_a_body_without_extent(tmp_path, kind):
    path = tmp_path / f"point.{kind}"
    draw_clip(path, np.ones((3, 1, 20, 3), dtype=np.float32), KINECT20, "a point")
    assert len(Image.open(path).convert("RGB").getcolors(1 << 24)) > 3
