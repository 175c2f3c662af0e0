import pickle

import numpy as np
import pytest

from crrl_fast.data import catalog
from crrl_fast.data.layouts import KINECT20, LAYOUTS, Layout
from crrl_fast.data.preparation import Findings
from crrl_fast.data.readers.pyskl_splits import folds_of
from crrl_fast.data.store import Store
from crrl_fast.errors import DataError
from tests.data.foreign import make_clips, write_pyskl

CLIPS = make_clips(9)
NAMES = [clip.name for clip in CLIPS]
COCO17 = Layout("coco17", tuple(f"joint {i}" for i in range(17)), (), (), (0,), (1,), (2, 3))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_round_trip(tmp_path, protocol):
    path = write_pyskl(tmp_path / "ntu60_3danno.pkl", CLIPS, protocol=protocol)
    recording, found = catalog.open_recording("ntu60", path)
    assert found == "PYSKL annotations"
    for clip, expected in zip(recording.clips, CLIPS, strict=True):
        assert np.array_equal(clip.coords, expected.coords)  # the absent second body is back
        assert clip == type(clip)(**{**vars(expected), "coords": clip.coords})


def test_2d_keypoints_get_z(tmp_path, monkeypatch):
    monkeypatch.setitem(LAYOUTS, "coco17", COCO17)
    clips = make_clips(5, joints=17)
    recording, _ = catalog.open_recording("gym", write_pyskl(tmp_path / "gym_hrnet.pkl", clips, dimensions=2))
    assert recording.layout == COCO17
    for clip, expected in zip(recording.clips, clips, strict=True):
        assert np.array_equal(clip.coords[..., :2], expected.coords[..., :2])
        assert not clip.coords[..., 2].any()


def test_a_list_of_annotations_has_no_splits(tmp_path):
    path = write_pyskl(tmp_path / "a.pkl", CLIPS)
    content = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps(content["annotations"]))
    recording, _ = catalog.open_recording("ntu60", path)
    assert len(list(recording.clips)) == 9
    assert recording.splits == {}


def parts(store, name):
    return tuple([store.info.clip_names[i] for i in part] for part in store.split(name))


def test_every_named_split_survives(tmp_path):
    lists = {
        "xsub_train": NAMES[:6],
        "xsub_val": NAMES[6:],
        "xview_train": NAMES[1::2],
        "xview_val": NAMES[::2],
        "train1": NAMES[:2],  # HMDB51's leave clips out
        "test1": NAMES[2:5],
        "few": NAMES[:1],
    }
    path = write_pyskl(tmp_path / "a.pkl", CLIPS, lists=lists)
    store = catalog.prepare("ntu60", path, steps=())
    store.save(tmp_path / "a.safetensors")
    store = Store.open(tmp_path / "a.safetensors")
    assert list(store.info.splits) == ["xsub", "xview", "1", "few"]
    assert parts(store, "xsub") == parts(store, None) == (NAMES[:6], NAMES[6:])
    assert parts(store, "xview") == (NAMES[1::2], NAMES[::2])
    assert parts(store, "1") == (NAMES[:2], NAMES[2:5])
    assert parts(store, "few") == (NAMES[:1], [])


def test_split_names():
    names = {"train": "a", "val": "b", "test": "c"}
    folds, splits = folds_of(names)
    assert list(splits) == ["file_val", "file"]
    assert (splits["file"].train, splits["file"].test) == ((folds["a"],), (folds["c"],))
    assert (splits["file_val"].train, splits["file_val"].test) == ((folds["a"],), (folds["b"],))
    assert list(folds_of({"sub_train": "a", "sub_test": "b"})[1]) == ["sub"]
    assert folds_of({"test": "a"})[1] == {}
    assert folds_of({}) == ({}, {})


def test_clips_in_no_list_are_in_no_part_and_missing_ones_are_counted(tmp_path):
    lists = {"train": [*NAMES[:3], "absent"], "val": NAMES[3:5]}
    findings = Findings()
    path = write_pyskl(tmp_path / "a.pkl", CLIPS, lists=lists)
    recording, _ = catalog.open_recording("ntu60", path, skip=findings.skip)
    store = Store.from_recording(recording, dataset="ntu60")
    assert parts(store, "file") == (NAMES[:3], NAMES[3:5])
    assert store.fold.tolist()[5:] == [-1] * 4
    assert dict(findings.skipped) == {"a split names it, but no annotation": 1}


def test_clips_without_a_body_are_skipped_and_counted(tmp_path):
    path = write_pyskl(tmp_path / "a.pkl", CLIPS)
    content = pickle.loads(path.read_bytes())
    content["annotations"][1]["keypoint"] = np.zeros((0, 4, 25, 3))
    content["annotations"][1]["total_frames"] = 4
    content["annotations"][2]["keypoint"] *= 0
    path.write_bytes(pickle.dumps(content))
    findings = Findings()
    recording, _ = catalog.open_recording("ntu60", path, skip=findings.skip)
    assert [clip.name for clip in recording.clips] == NAMES[:1] + NAMES[3:]
    assert dict(findings.skipped) == {"no body was ever seen": 2}


GOOD = {"frame_dir": "good", "label": 1, "keypoint": np.ones((2, 3, 25, 3), np.float16), "total_frames": 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([GOOD, {**GOOD, "keypoint": None}], r"annotation 1 \('good'\) has keypoints of another shape"),
        ([GOOD, {**GOOD, "keypoint": np.ones((2, 3, 20, 3))}], r"annotation 1 .* \(2, 3, 20, 3\), expected"),
        ([GOOD, {**GOOD, "keypoint": np.ones((999, 1, 25, 3))}], r"\(999, 1, 25, 3\), expected \(up to 32, frames"),
        ([GOOD, {**GOOD, "total_frames": 4}], "has 3 frames, but its total_frames is 4"),
        ([GOOD, {**GOOD, "total_frames": 10**5000}], "its total_frames is absurd"),
        ([GOOD, {**GOOD, "label": "wave"}], r"annotation 1 .* has a label in .*bad\.pkl"),
        ([GOOD, GOOD], "'good' stands twice"),
        ([GOOD, {"label": 1}], "no name"),
        ([{"frame_dir": "x", "raw_file": "y"}], "Kinetics-400"),
        ([GOOD, 3], "no list of annotations"),
        ({"split": {"train": 4}, "annotations": [GOOD]}, "not a dict of lists of names"),
        ({"split": {}}, "no list of annotations"),
        ([{**GOOD, "keypoint": np.ones((1, 3, 19, 3))}], "19 joints a body fit no known joint layout: .*--joints"),
    ],
)
def test_malformed_annotations_name_the_fault(tmp_path, content, message):
    path = tmp_path / "bad.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=message):
        recording, _ = catalog.open_recording("ntu60", path, layout="pyskl")
        Store.from_recording(recording, dataset="ntu60")


def test_a_joint_layout_may_be_named(tmp_path):
    path = write_pyskl(tmp_path / "a.pkl", make_clips(3, joints=20))
    assert catalog.open_recording("mine", path, joints="kinect20")[0].layout == KINECT20
    with pytest.raises(DataError, match="20 joints a body do not fit joint layout 'ntu25'"):
        catalog.open_recording("mine", path, joints="ntu25")
