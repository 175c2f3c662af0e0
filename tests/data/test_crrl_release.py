import numpy as np
import pytest

from crrl_fast.data import catalog
from crrl_fast.data.layouts import KINECT20, NTU25
from crrl_fast.errors import DataError
from tests.data.foreign import make_clips, of_fold, write_crrl


@pytest.mark.parametrize("form", [{}, {"as_lists": True}, {"padded_numbers": True}])
@pytest.mark.parametrize(("joints", "bodies", "layout"), [(25, 2, NTU25), (25, 1, NTU25), (20, 1, KINECT20)])
def test_round_trip(tmp_path, joints, bodies, layout, form):
    written = make_clips(9, joints=joints, bodies=bodies)
    folder = write_crrl(tmp_path / "fold3", written, **form)
    recording, found = catalog.open_recording("cmu", folder)
    assert found == "CRRL's layout: train_data.npy of 6 clips, val_data.npy of 3 clips"
    assert recording.layout == layout
    assert list(recording.splits) == ["fold3"]
    for clip, expected in zip(recording.clips, of_fold(written, 0) + of_fold(written, 1), strict=True):
        assert np.allclose(clip.coords, expected.coords, rtol=0, atol=0)
        assert (clip.label, clip.fold) == (expected.label, expected.fold)


def test_clips_of_equal_length_make_one_array_of_objects(tmp_path):
    data = np.array(np.random.default_rng(0).normal(size=(3, 4, 60)).tolist(), dtype=object)
    assert data.shape == (3, 4, 60)
    np.save(tmp_path / "train_data.npy", data)
    recording, _ = catalog.open_recording("ucla", tmp_path / "train_data.npy")
    clips = list(recording.clips)
    assert [clip.coords.shape for clip in clips] == [(4, 1, 20, 3)] * 3
    assert np.array_equal(clips[1].coords.reshape(4, 60), data[1].astype(np.float32))
    assert {clip.label for clip in clips} == {-1}


def objects(*items):
    data = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        data[i] = item
    return data


FRAMES = np.ones((4, 60))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (objects(FRAMES, FRAMES[:, :59]), r"clip 1 \('train 1'\) has shape \(4, 59\), expected \(frames, 60\)"),
        (objects(FRAMES, [[0] * 59]), "clip 1 .* list of something other than frames of 60 numbers"),
        (objects(FRAMES, [["a"] * 60]), "clip 1 .* other than numbers"),
        (objects(FRAMES, "text"), "clip 1 .* other than numbers"),
        (objects(FRAMES, None), r"clip 1 .* has shape \(\)"),
        (objects(FRAMES, FRAMES * np.nan), "not finite"),
        (objects(3, FRAMES), "its first clip is no"),
        (objects(FRAMES[:, :50]), "50 numbers a frame fit no known joint layout"),
        (objects(FRAMES)[:0], r"have \[\] numbers a frame"),
        (np.ones((3, 60)), r"float64 of shape \(3, 60\), expected clips as objects"),
    ],
)
def test_malformed_files_name_the_fault(tmp_path, data, message):
    np.save(tmp_path / "train_data.npy", data)
    with pytest.raises(DataError, match=message):
        recording, _ = catalog.open_recording("ucla", tmp_path, layout="crrl")
        for clip in recording.clips:
            catalog.Store.from_recording(type(recording)(recording.layout, [clip]), dataset="ucla")


def test_nested_lists_are_not_unfolded(tmp_path):
    inner = [1.0] * 60
    for _ in range(30):  # sixty times as many numbers at each level
        inner = [inner] * 60
    np.save(tmp_path / "train_data.npy", objects(FRAMES, [inner]))
    with pytest.raises(DataError, match="clip 1 .* other than numbers"):
        list(catalog.open_recording("ucla", tmp_path)[0].clips)
