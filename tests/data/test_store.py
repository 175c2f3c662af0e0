import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from crrl_fast.data.info import Split
from crrl_fast.data.preprocess import Bone, Center, Downsample, Motion, Rotate
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError, CrrlError, DataError
from tests.conftest import random_walks


def rewrite(path, change=None, drop=None, **tensors):
    """Write the store at ``path`` again with its header changed or other tensors."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["crrl_fast"])
    values = {**load_file(path), **tensors}
    if drop:
        del values[drop]
    header.update(change or {})
    save_file(values, path, metadata={"crrl_fast": json.dumps(header)})


def test_clips_survive_the_disk(tiny_store, tiny_path):
    opened = Store.open(tiny_path)
    assert opened.info == tiny_store.info
    for i, array in enumerate(random_walks(24)):
        assert torch.equal(opened.clip(i)[:, 0], torch.from_numpy(array))
    for name in ("offsets", "labels", "subject", "camera", "setup", "replication"):
        assert torch.equal(getattr(opened, name), getattr(tiny_store, name))


def test_an_open_store_is_memory_mapped(tiny_path):
    store = Store.open(tiny_path)
    maps = Path("/proc/self/maps").read_text()
    assert str(tiny_path) in maps
    assert store.frames.device.type == "cpu"


def test_split_by_camera(tiny_store):
    train, test = tiny_store.split()
    assert (len(train), len(test)) == (16, 8)
    assert set(tiny_store.camera[train].tolist()) == {1, 2}
    assert set(tiny_store.camera[test].tolist()) == {3}


def test_unknown_values_are_in_neither_part():
    store = Store.from_arrays(
        random_walks(4), camera=[1, 2, -1, 2], layout="kinect20", splits={"xview": Split("camera", (1,))}
    )
    train, test = store.split("xview")
    assert (train.tolist(), test.tolist()) == ([0], [1, 3])


def test_a_split_may_name_its_test_part(tmp_path):
    split = Split("fold", (0,), test=(2,))
    Store.from_arrays(random_walks(4), fold=[0, 1, 2, -1], layout="kinect20", splits={"own": split}).save(
        tmp_path / "a"
    )
    store = Store.open(tmp_path / "a")
    assert store.info.splits == {"own": split}
    train, test = store.split("own")
    assert (train.tolist(), test.tolist()) == ([0], [2])


def test_a_store_without_splits_trains_on_everything():
    train, test = Store.from_arrays(random_walks(3), layout="kinect20").split()
    assert (train.tolist(), test.tolist()) == ([0, 1, 2], [])


def test_unknown_splits_and_splits_without_training_clips_are_refused(tiny_store):
    with pytest.raises(ConfigError, match=r"'xsub'.*xview"):
        tiny_store.split("xsub")
    one_sided = Store.from_arrays(
        random_walks(2),
        setup=[1, 1],
        layout="kinect20",
        splits={"first": Split("setup", (1,)), "second": Split("setup", (2, 3))},
    )
    train, test = one_sided.split()
    assert (len(train), len(test)) == (2, 0)
    with pytest.raises(ConfigError, match=r"'second'.* no clip into training: none has setup in \[2, 3\]"):
        one_sided.split("second")


def test_hash_depends_on_content_only(tiny_store):
    again = Store.from_arrays(random_walks(24), layout="kinect20")
    other = Store.from_arrays(random_walks(24, seed=1), layout="kinect20")
    relabelled = Store.from_arrays(random_walks(24), labels=[0] * 24, layout="kinect20")
    assert len({again.info.sha256, other.info.sha256, relabelled.info.sha256}) == 3
    assert again.info.sha256 == Store.from_arrays(random_walks(24), layout="kinect20").info.sha256


def test_downsampled_is_the_step_and_is_recorded(tiny_store):
    shorter = tiny_store.processed([Downsample(5)])
    assert int(shorter.lengths.max()) == 5
    whole = Store.from_arrays(random_walks(24), layout="kinect20", steps=[Downsample(5)])
    assert torch.equal(shorter.frames, whole.frames)
    assert shorter.info.preprocessing == whole.info.preprocessing
    assert tiny_store.processed([Downsample(12)]) is tiny_store


def test_a_copy_that_does_not_fit_into_memory_is_refused(tiny_store, monkeypatch):
    monkeypatch.setattr("crrl_fast.data.store.available_memory", lambda: tiny_store.frames.nbytes - 1)
    with pytest.raises(DataError, match="'tiny': downsample=5,rotate takes .* GB of memory, and .* are free"):
        tiny_store.processed([Downsample(5), Rotate()])
    assert tiny_store.processed([Downsample(12)]) is tiny_store


def test_from_arrays_takes_several_bodies_and_steps():
    arrays = [np.random.default_rng(i).normal(size=(4, 2, 25, 3)) for i in range(2)]
    store = Store.from_arrays(arrays, layout="ntu25", steps=[Center()])
    assert store.info.bodies == 2
    assert store.frames.shape == (8, 150)
    assert store.frames.dtype == torch.float32
    assert store.info.preprocessing == ({"step": "center"},)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ([], {}, "no clips"),
        ([np.zeros((3, 19, 3))], {}, r"'clip 0' has shape \(3, 1, 19, 3\)"),
        ([np.zeros((0, 20, 3))], {}, "at least one frame"),
        ([np.zeros((3, 20))], {}, r"shape \(3, 20\)"),
        ([np.zeros((2, 20, 3)), np.zeros((2, 2, 20, 3))], {}, r"'clip 1' has shape \(2, 2, 20, 3\)"),
        ([np.full((2, 20, 3), np.nan)], {}, "'clip 0'.*frame 0, body 0, joint 'hip_center'"),
        ([np.zeros((2, 20, 3))], {"labels": [1], "class_names": ["a"]}, "label 1, but there are 1"),
        ([np.zeros((2, 20, 3))], {"labels": [0, 1]}, "label: 2 entries for 1 clips"),
        ([np.zeros((2, 20, 3))] * 2, {"names": ["a", "a"]}, "'a' stands twice"),
        ([np.zeros((2, 20, 3))], {"layout": "octopus"}, "octopus"),
    ],
)
def test_malformed_clips_are_named(arrays, options, message):
    with pytest.raises(DataError, match=message):
        Store.from_arrays(arrays, **{"layout": "kinect20", **options})


def test_saving_is_all_or_nothing(tiny_store, tmp_path, monkeypatch):
    path = tmp_path / "folder" / "x.safetensors"

    def fail(filename, tensors, metadata):
        filename.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("crrl_fast.data.store.write_tensors", fail)
    with pytest.raises(CrrlError, match=r"x\.safetensors: cannot be written \(no space left"):
        tiny_store.save(path)
    assert list(path.parent.iterdir()) == []


def test_every_truncation_is_refused(tiny_path):
    content = tiny_path.read_bytes()
    for size in (0, 4, 8, 100, len(content) // 2, len(content) - 1):
        tiny_path.write_bytes(content[:size])
        with pytest.raises(DataError, match=r"tiny\.safetensors"):
            Store.open(tiny_path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        Store.open(tmp_path / "absent.safetensors")
    foreign = tmp_path / "weights.safetensors"
    save_file({"w": torch.zeros(2)}, foreign)
    with pytest.raises(DataError, match="no crrl-fast store"):
        Store.open(foreign)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "store version 3, but this crrl-fast reads version 2"),
        ({"format": "other"}, "damaged"),
        ({"layout": "octopus"}, "octopus"),
        ({"splits": {"xview": {"field": "frames", "train": [1]}}}, "unknown field 'frames'"),
        ({"splits": {"xview": 3}}, "damaged"),
        ({"bodies": 2}, "does not fit 24 clips of 120 numbers"),
        ({"clip_names": ["a"]}, "does not fit 1 clips"),
        ({"class_names": ["a"]}, r"labels outside -1\.\.0"),
    ],
)
def test_headers_that_contradict_are_refused(tiny_path, change, message):
    rewrite(tiny_path, change)
    with pytest.raises(DataError, match=message):
        Store.open(tiny_path)


def test_tensors_that_contradict_are_refused(tiny_path):
    content = tiny_path.read_bytes()
    good = load_file(tiny_path)
    falling = good["offsets"].clone()
    falling[3] = falling[2]
    for values, message in [
        ({"offsets": falling}, "offsets do not rise"),
        ({"offsets": good["offsets"] - 1}, "offsets do not rise"),
        ({"frames": good["frames"].half()}, "frames is torch.float16"),
        ({"labels": good["labels"][1:].clone()}, r"labels is torch.int64 \(23,\)"),
        ({"drop": "camera"}, "a store holds"),
    ]:
        tiny_path.write_bytes(content)
        rewrite(tiny_path, **values)
        with pytest.raises(DataError, match=message):
            Store.open(tiny_path)


def test_processing_is_recorded(tiny_store):
    bones = tiny_store.processed([Downsample(5), Bone()])
    assert [step["step"] for step in bones.info.preprocessing] == ["downsample", "bone"]
    assert [step["step"] for step in tiny_store.processed([Downsample(12), Motion()]).info.preprocessing] == ["motion"]
    assert bones.frames.shape == tiny_store.processed([Downsample(5)]).frames.shape
