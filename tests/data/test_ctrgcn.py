import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from crrl_fast.cli import app
from crrl_fast.data import catalog
from crrl_fast.data.layouts import KINECT20
from crrl_fast.data.preparation import Findings
from crrl_fast.data.readers import READERS, Request
from crrl_fast.data.store import Store
from crrl_fast.errors import DataError
from tests.data.foreign import make_clips, of_fold, write_ctrgcn

CLIPS = make_clips(9)
IN_ORDER = of_fold(CLIPS, 0) + of_fold(CLIPS, 1)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("one_hot", [np.float64, np.uint8, None])
@pytest.mark.parametrize("axes", ["NTD", "NTMVC", "NCTVM"])
def test_round_trip(tmp_path, axes, one_hot, compressed):
    path = write_ctrgcn(tmp_path / "NTU60_CS.npz", CLIPS, axes=axes, one_hot=one_hot, compressed=compressed)
    recording, found = catalog.open_recording("ntu60", path)
    assert found.startswith("CTR-GCN layout: x_train (6, ")
    clips = list(recording.clips)
    assert [clip.name for clip in clips][5:7] == ["train 5", "test 0"]
    for clip, expected in zip(clips, IN_ORDER, strict=True):
        assert np.array_equal(clip.coords, expected.coords)
        assert (clip.label, clip.fold) == (expected.label, expected.fold)
    train, test = catalog.prepare("ntu60", path, steps=()).split("xsub")
    assert (len(train), len(test)) == (6, 3)


def test_the_real_file_is_prepared(real_data, tmp_path):
    source, out = real_data("ctrgcn/NTU60_CS.npz"), tmp_path / "ntu60.safetensors"
    result = CliRunner().invoke(app, ["prepare", "ntu60", str(source), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "11 clips" in result.output
    store = Store.open(out)
    assert (len(store), store.layout.name, store.info.bodies, store.num_classes) == (11, "ntu25", 2, 60)
    with np.load(source) as file:
        assert store.labels.tolist() == file["y_test"].argmax(axis=1).tolist()
        whole = [int(clip.any(axis=1).nonzero()[0][-1]) + 1 for clip in file["x_test"]]
    assert store.lengths.tolist() == [min(length, 60) for length in whole]


def test_real_coordinates_are_kept(real_data):
    source = real_data("ctrgcn/NTU60_CS.npz")
    store = catalog.prepare("ntu60", source, steps=())
    with np.load(source) as file:
        for i, clip in enumerate(file["x_test"]):
            expected = torch.from_numpy(clip[: int(store.lengths[i])]).view(-1, 2, 25, 3)
            assert torch.equal(store.clip(i), expected)


def test_clips_without_a_body_are_skipped_and_counted(tmp_path):
    x = np.zeros((4, 9, 150), np.float32)
    x[[0, 2, 3], :5] = 1
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(4))
    findings = Findings()
    recording, _ = catalog.open_recording("ntu60", tmp_path / "a.npz", skip=findings.skip)
    assert [(clip.label, len(clip.coords)) for clip in recording.clips] == [(0, 5), (2, 5), (3, 5)]
    assert dict(findings.skipped) == {"no body was ever seen": 1}


def test_other_skeletons(tmp_path):
    clips = make_clips(6, joints=20, bodies=1)
    path = write_ctrgcn(tmp_path / "ucla.npz", clips)
    recording, _ = catalog.open_recording("ucla", path)
    assert recording.layout == KINECT20
    path = write_ctrgcn(tmp_path / "three.npz", make_clips(6, joints=20, bodies=4))
    with pytest.raises(DataError, match=r"x_train\.npy: 240 numbers a frame fit no known joint layout: .*--joints"):
        catalog.open_recording("ucla", path)
    request = Request(path, "mine", joints=KINECT20)
    assert next(iter(READERS["ctr-gcn"].read(request).clips)).coords.shape[1:] == (4, 20, 3)
    with pytest.raises(DataError, match="240 numbers a frame do not fit joint layout 'ntu25'"):
        catalog.open_recording("ucla", path, joints="ntu25")


X = np.ones((4, 9, 150), np.float32)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": X}, "holds a, expected x_train"),
        ({}, "holds no array"),
        ({"x_train": X[:0]}, "holds no clip"),
        ({"x_train": X.astype("U3")}, "<U3 of shape"),
        ({"x_train": X[:, :, None]}, r"shape \(4, 9, 1, 150\)"),
        ({"x_train": np.ones((2, 3, 2, 25, 3))}, "may be .* or .*, or neither"),
        ({"x_train": np.ones((2, 9, 2, 25, 4))}, "may be .* or .*, or neither"),
        ({"x_train": X, "x_test": X[..., :75]}, "its parts differ"),
        ({"x_train": X, "y_train": np.arange(3)}, r"y_train\.npy: 3 labels for 4 clips"),
        ({"x_train": X, "y_train": np.ones((4, 2, 2))}, "labels of shape"),
        ({"x_train": X, "y_train": np.ones((4, 60))}, r"clip 0 \('train 0'\) has a label in .*y_train"),
        ({"x_train": X, "y_train": np.array([0, 1, -2, 3])}, r"clip 2 \('train 2'\) has a label"),
        ({"x_train": X * np.inf}, "not finite"),
    ],
)
def test_malformed_archives_name_member_and_fault(tmp_path, arrays, message):
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message) as caught:
        recording, _ = catalog.open_recording("ntu60", path, layout="ctr-gcn")
        Store.from_recording(recording, dataset="ntu60")
    assert "bad.npz" in str(caught.value) or "'train 0'" in str(caught.value)


def test_bad_clips_are_left_out_where_asked(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x_train=X, y_train=np.array([0, 1, -2, 3]))
    problems = []
    recording, _ = catalog.open_recording("ntu60", path, report=problems.append)
    assert [clip.name for clip in recording.clips] == ["train 0", "train 1", "train 3"]
    assert len(problems) == 1
