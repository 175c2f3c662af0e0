import pickle

import numpy as np
import pytest

from crrl_fast.data import catalog
from crrl_fast.data.layouts import LAYOUTS, Layout
from crrl_fast.errors import DataError
from tests.data.foreign import make_clips, of_fold, write_stgcn

CLIPS = make_clips(9)
IN_ORDER = of_fold(CLIPS, 0) + of_fold(CLIPS, 1)


def read(source, dataset="ntu60", **options):
    recording, found = catalog.open_recording(dataset, source, **options)
    return recording, list(recording.clips), found


@pytest.mark.parametrize("labels", ["pkl", "npy"])
@pytest.mark.parametrize("num_frame", [False, True])
@pytest.mark.parametrize("kind", ["data", "data_joint", "position"])
def test_round_trip(tmp_path, kind, num_frame, labels):
    folder = write_stgcn(tmp_path / "xsub", CLIPS, kind=kind, num_frame=num_frame, labels=labels)
    recording, clips, found = read(folder)
    assert f"train_{kind}.npy (6, 3, 12, 25, 2)" in found
    assert recording.count == len(clips)
    assert recording.fps == (None if kind == "position" else 30)
    for clip, expected in zip(clips, IN_ORDER, strict=True):
        assert np.array_equal(clip.coords, expected.coords)
        assert (clip.label, clip.fold) == (expected.label, expected.fold)
        if labels == "pkl":
            assert clip == type(clip)(**{**vars(expected), "coords": clip.coords})
    store = catalog.prepare("ntu60", folder, steps=())
    train, test = store.split("xsub")
    assert (train.tolist(), test.tolist()) == (list(range(6)), [6, 7, 8])


def test_num_frame_keeps_frames_of_zeros(tmp_path):
    folder = write_stgcn(tmp_path / "a", CLIPS)
    np.save(folder / "train_num_frame.npy", [12] * 6)
    assert [len(clip.coords) for clip in read(folder)[1]][:6] == [12] * 6
    np.save(folder / "train_num_frame.npy", [13] * 6)
    with pytest.raises(
        DataError, match=r"train_data\.npy: clip 0 \('S001.*has 12 frames, but its length is given as 13"
    ):
        read(folder)


def test_a_file_alone_and_a_folder_of_one_protocol(tmp_path):
    folder = write_stgcn(tmp_path / "ntu60_frame50" / "xview", CLIPS, kind="position")
    recording, clips, _ = read(folder / "val_position.npy")
    assert [clip.name for clip in clips] == [clip.name for clip in of_fold(CLIPS, 1)]
    assert recording.splits == {}
    recording, clips, _ = read(tmp_path / "ntu60_frame50")
    assert len(clips) == 9
    assert list(recording.splits) == ["xview"]


def test_several_protocols_or_kinds_must_be_chosen_from(tmp_path):
    write_stgcn(tmp_path / "xsub", CLIPS)
    write_stgcn(tmp_path / "xview", CLIPS)
    with pytest.raises(DataError, match=r"several data sets or protocols; name one: .*xsub, .*xview"):
        catalog.open_recording("ntu60", tmp_path, layout="st-gcn")
    write_stgcn(tmp_path / "xsub", CLIPS, kind="position")
    with pytest.raises(DataError, match=r"same clips twice \(train_data\.npy, train_position\.npy"):
        catalog.open_recording("ntu60", tmp_path / "xsub", layout="st-gcn")


def test_without_labels_clips_are_unlabelled(tmp_path):
    folder = write_stgcn(tmp_path / "a", CLIPS)
    for path in folder.glob("*_label.pkl"):
        path.unlink()
    recording, clips, _ = read(folder)
    assert {clip.label for clip in clips} == {-1}
    assert recording.class_names == ()
    assert clips[0].name == "train 0"


def test_clips_without_a_body_are_skipped_and_counted(tmp_path):
    folder = write_stgcn(tmp_path / "a", CLIPS)
    data = np.load(folder / "train_data.npy")
    data[2] = 0
    np.save(folder / "train_data.npy", data)
    skipped = []
    _, clips, _ = read(folder, skip=lambda clip, why: skipped.append((clip, why)))
    assert skipped == [(IN_ORDER[2].name, "no body was ever seen")]
    assert len(clips) == 8


def test_two_coordinates_get_z(tmp_path):
    folder = write_stgcn(tmp_path / "a", CLIPS)
    for path in folder.glob("*_data.npy"):
        np.save(path, np.load(path)[:, :2])
    for clip, expected in zip(read(folder)[1], IN_ORDER, strict=True):
        assert np.array_equal(clip.coords[..., :2], expected.coords[..., :2])
        assert not clip.coords[..., 2].any()


def test_the_confidence_of_openpose_is_no_coordinate(tmp_path, monkeypatch):
    joints = tuple(f"joint {i}" for i in range(18))
    monkeypatch.setitem(LAYOUTS, "openpose18", Layout("openpose18", joints, (), (), (0,), (1,), (2, 3)))
    clips = make_clips(4, joints=18)
    _, found, _ = read(write_stgcn(tmp_path / "a", clips), "kinetics")
    assert not any(clip.coords[..., 2].any() for clip in found)


def replace_label(folder, content):
    (folder / "train_label.pkl").write_bytes(pickle.dumps(content))


NAMES = [clip.name for clip in of_fold(CLIPS, 0)]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: replace_label(folder, (NAMES, [0] * 5)), "5 labels and 6 names, but .* has 6 clips"),
        (lambda folder: replace_label(folder, (NAMES[:5], [0] * 6)), "6 labels and 5 names, but .* has 6 clips"),
        (lambda folder: replace_label(folder, {"a": 1}), r"holds a dict, expected \(names, labels\)"),
        (lambda folder: replace_label(folder, ([1] * 6, [0] * 6)), "other than names"),
        (
            lambda folder: replace_label(folder, (NAMES, [0, 1, 2.5, 3, 4, 5])),
            r"clip 2 \(.* has a label in .*label\.pkl",
        ),
        (lambda folder: replace_label(folder, (NAMES, [0, 1, 2, 3, 4, 10**9])), r"clip 5 \(.* has a label"),
        (lambda folder: replace_label(folder, (NAMES[:1] * 6, [0] * 6)), "stands twice"),
        (lambda folder: np.save(folder / "train_num_frame.npy", np.ones(5, int)), "whole number for each of 6 clips"),
        (lambda folder: np.save(folder / "train_data.npy", np.zeros((6, 3, 5, 24, 2))), "24 joints a body .*--joints"),
        (lambda folder: np.save(folder / "train_data.npy", np.full((6, 3, 5, 25, 2), np.nan)), "not finite at frame 0"),
    ],
)
def test_malformed_parts_name_file_and_fault(tmp_path, spoil, message):
    folder = write_stgcn(tmp_path / "xsub", CLIPS)
    spoil(folder)
    with pytest.raises(DataError, match=message):
        catalog.prepare("ntu60", folder, steps=())
