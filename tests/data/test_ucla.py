import json
import zipfile

import numpy as np
import pytest
import torch

from crrl_fast.data import catalog
from crrl_fast.data.preprocess import parse_steps
from crrl_fast.errors import DataError


def clip_json(frames=3, label=1, value=0.5):
    return {"file_name": "x", "skeletons": np.full((frames, 20, 3), value).tolist(), "label": label}


def write_folder(folder, clips):
    folder.mkdir(exist_ok=True)
    for name, content in clips.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text)
    return folder


GOOD = {"a01_s01_e00_v01.json": clip_json(), "a02_s03_e02_v03.json": clip_json(frames=1, label=2)}


def test_real_clips_counts_lengths_and_coordinates(real_data):
    source = real_data("nw_ucla_all_sqe.zip")
    store = catalog.prepare("ucla", source, steps=())
    train, test = store.split("xview")
    assert (len(store), len(train), len(test)) == (1484, 1020, 464)
    assert (int(store.lengths.min()), int(store.lengths.max()), int(store.lengths.median())) == (1, 201, 31)
    assert store.labels.unique().tolist() == list(range(10))
    with zipfile.ZipFile(source) as archive:
        for i in (0, 700, 1483):
            member = f"all_sqe/{store.info.clip_names[i]}.json"
            expected = json.loads(archive.read(member))
            assert torch.equal(store.clip(i)[:, 0], torch.tensor(expected["skeletons"], dtype=torch.float32))
            assert int(store.labels[i]) == expected["label"] - 1


def test_folder_and_zip_give_the_same_store(tmp_path):
    folder = write_folder(tmp_path / "all_sqe", GOOD)
    archive = tmp_path / "ucla.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.iterdir(), reverse=True):
            file.write(path, f"all_sqe/{path.name}")
        file.writestr("__MACOSX/all_sqe/._a01_s01_e00_v01.json", b"\0\5\x16\7")
    steps = parse_steps("center,rotate")
    one, other = catalog.prepare("ucla", folder, steps), catalog.prepare("ucla", archive, steps)
    assert one.info == other.info
    assert (one.subject.tolist(), one.camera.tolist(), one.replication.tolist()) == ([1, 3], [1, 3], [0, 2])
    assert one.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a01_s01_e00_v01.json", "{", "not a JSON clip"),
        ("a01_s01_e00_v01.json", "[1, 2]", "not a JSON clip"),
        ("a01_s01_e00_v01.json", {"label": 1}, "skeletons"),
        ("a01_s01_e00_v01.json", clip_json(label=11), "label 11"),
        ("a01_s01_e00_v01.json", clip_json(label="1"), "label '1'"),
        ("a01_s01_e00_v01.json", clip_json(label=True), "label True"),
        ("a01_s01_e00_v01.json", clip_json(frames=0), r"shape \(0,\)"),
        ("a01_s01_e00_v01.json", {"label": 1, "skeletons": [[[1, 2, 3]] * 19]}, r"shape \(1, 19, 3\)"),
        ("a01_s01_e00_v01.json", {"label": 1, "skeletons": [[[1, 2, 3]] * 20, [[1, 2]] * 20]}, "not .frames, 20, 3."),
        ("a01_s01_e00_v01.json", clip_json(value=float("nan")), "nan at frame 0, joint 'hip_center', coordinate x"),
        ("a01_s01_e00_v01.json", clip_json(value=1e300), "inf at frame 0"),
        ("b01.json", clip_json(), "aAA_sSS_eEE_vVV"),
    ],
)
def test_malformed_clips_name_file_and_fault(tmp_path, name, content, message):
    folder = write_folder(tmp_path / "all_sqe", {**GOOD, name: content})
    with pytest.raises(DataError, match=message) as caught:
        catalog.prepare("ucla", folder)
    assert name in str(caught.value)


def test_sources_that_are_none(tmp_path):
    no_zip = tmp_path / "no.zip"
    no_zip.write_bytes(b"PK\3\4 not really")
    empty = tmp_path / "empty"
    empty.mkdir()
    for source, message in [
        (no_zip, "neither a folder nor a readable zip"),
        (empty, r"holds no \.json"),
        (tmp_path / "absent", "no such file or folder"),
    ]:
        with pytest.raises(DataError, match=message):
            recording, _ = catalog.open_recording("ucla", source, layout="ucla")
            list(recording.clips)


def test_a_damaged_archive_member_is_named(tmp_path):
    archive = tmp_path / "ucla.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a01_s01_e00_v01.json", json.dumps(clip_json()))
    content = bytearray(archive.read_bytes())
    content[60] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read a01_s01_e00_v01\.json"):
        catalog.prepare("ucla", archive)
