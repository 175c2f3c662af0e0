import json
import tracemalloc
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from rich.console import Console

from crrl_fast import Split, Store
from crrl_fast.data import inspection
from crrl_fast.data.inspection import NotFinite, SplitSizes, find_clip, inspect_store
from crrl_fast.data.preprocess import parse_steps
from crrl_fast.errors import ConfigError
from crrl_fast.inspection_table import clip_title, histogram, render
from tests.stores import save_with_stale_hash


def inspected(store, tmp_path):
    path = save_with_stale_hash(store, tmp_path / "store.safetensors")
    return inspect_store(Store.open(path), path)


def text_of(found, **options):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(render(found, **options))
    return console.export_text()


@pytest.fixture
def two_bodies():
    """Four clips of 1, 2, 3 and 4 frames; clip i stands at (i + 1, 10, -1), its second body at (-5, 0, 7)."""
    clips = [np.zeros((i + 1, 2, 20, 3), dtype=np.float32) for i in range(4)]
    for i, clip in enumerate(clips):
        clip[:, 0] = (i + 1, 10, -1)
    clips[2][1, 1] = (-5, 0, 7)  # the second body comes for one frame
    clips[3][0] = 0  # nobody is there at first
    return Store.from_arrays(
        clips, labels=[0, 1, 1, -1], class_names=["sit", "stand"], subject=[1, 2, 2, -1], layout="kinect20", fps=30
    )


def test_counts_of_the_tiny_store(tiny_store, tmp_path):
    found = inspected(tiny_store, tmp_path)
    lengths = tiny_store.lengths.double()
    assert (found.dataset, found.clips, found.frames) == ("tiny", 24, int(lengths.sum()))
    assert found.classes == {"class 0": 8, "class 1": 8, "class 2": 8}
    assert found.unlabelled == 0
    assert (found.lengths.shortest, found.lengths.longest) == (1, 12)
    expected = torch.quantile(lengths, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)).tolist()
    assert [found.lengths.p10, found.lengths.median, found.lengths.p90] == pytest.approx(expected)
    assert sum(found.lengths.histogram) == 24
    assert found.splits == {"xview": SplitSizes("camera", 16, 8)}
    assert (found.layout, found.joints, found.fps, found.preprocessing) == ("kinect20", 20, None, ())
    assert found.not_finite == NotFinite(0, 0, "")
    for axis, name in enumerate("xyz"):
        values = tiny_store.frames.view(-1, 3)[:, axis]
        assert found.ranges[name] == (float(values.min()), float(values.max()))
    assert found.file_bytes == (tmp_path / "store.safetensors").stat().st_size
    assert found.sha256 == tiny_store.info.sha256
    assert found.intact


@pytest.mark.parametrize("block", [1, 3, 1 << 14])
def test_bodies_and_ranges_by_hand(two_bodies, tmp_path, monkeypatch, block):
    monkeypatch.setattr(inspection, "_BLOCK_FRAMES", block)
    found = inspected(two_bodies, tmp_path)
    assert found.bodies.frames_present == (0.9, 0.1)
    assert found.bodies.clips_with_second == 0.25
    assert found.bodies.frames_without_any == pytest.approx(0.1)
    assert found.ranges == {"x": (-5, 4), "y": (0, 10), "z": (-1, 7)}  # the zeros of absent bodies are no coordinates
    assert (found.classes, found.unlabelled) == ({"sit": 1, "stand": 2}, 1)
    assert (found.lengths.p10, found.lengths.median, found.lengths.p90) == pytest.approx((1.3, 2.5, 3.7))


def test_values_that_are_not_finite_are_counted_and_the_hash_tells(two_bodies, tmp_path):
    frames = two_bodies.frames.clone()
    frames[1, 0], frames[2, 4], frames[4, 0] = float("nan"), float("inf"), -float("inf")
    found = inspected(replace(two_bodies, frames=frames), tmp_path)
    assert found.not_finite == NotFinite(3, 2, "clip 1")
    assert found.ranges == {"x": (-5, 4), "y": (0, 10), "z": (-1, 7)}
    assert not found.intact
    text = text_of(found)
    assert "3 numbers in 2 clips, first in 'clip 1'" in text
    assert "prepare it again" in text


def test_a_store_of_absent_bodies(tmp_path):
    store = Store.from_arrays([np.zeros((2, 20, 3))], layout="kinect20")
    found = inspected(store, tmp_path)
    assert found.ranges == dict.fromkeys("xyz")
    assert found.bodies.frames_without_any == 1
    assert "no body in 100 % of the frames" in text_of(found)


def test_a_split_without_training_clips_is_described(tiny_store, tmp_path):
    splits = {"xview": Split("camera", (9,)), "xsub": Split("subject", (1,))}
    found = inspected(replace(tiny_store, info=replace(tiny_store.info, splits=splits)), tmp_path)
    assert found.splits == {"xview": SplitSizes("camera", 0, 24), "xsub": SplitSizes("subject", 0, 0)}


def test_the_table_says_it_all(two_bodies, tmp_path):
    store = Store.from_arrays(
        [two_bodies.clip(i).numpy() for i in range(4)],
        labels=[0, 1, 1, -1],
        class_names=["sit", "stand"],
        layout="kinect20",
        fps=30,
        steps=parse_steps("scale,downsample=3"),
    )
    text = text_of(inspected(store, tmp_path))
    for part in (
        "recorded at 30 a second",
        "1 to 3 frames, median 2.5",
        "20, layout kinect20",
        "2 a frame, a second one in 25 % of the clips",
        "2, of 1 to 2 clips; 1 clips have no label",
        "none: all clips are for training",
        "scale, downsample(max_frames=3)",
        store.info.sha256,
        "which the tensors in the file still have",
    ):
        assert part in text, text


def test_many_classes_are_shortened_unless_asked_for(tmp_path):
    store = Store.from_arrays([np.ones((1, 20, 3))] * 120, labels=list(range(120)), layout="kinect20")
    found = inspected(store, tmp_path)
    short, full = text_of(found), text_of(found, all_classes=True)
    assert "120, of 1 clips" in short
    assert "and 108 more: --classes shows all" in short
    assert "class 11 " in short
    assert "class 12 " not in short
    assert "class 119 " in full
    assert "more" not in full


def test_no_bar_hides_a_clip():
    assert histogram((0, 1, 500, 1000)) == " ▁▄█"


def test_the_record_is_json(tiny_store, tmp_path):
    found = inspected(tiny_store, tmp_path)
    assert json.loads(json.dumps(asdict(found)))["splits"]["xview"] == {"field": "camera", "train": 16, "test": 8}


def test_clips_are_found_by_number_or_name(tiny_store):
    assert find_clip(tiny_store, "23") == 23
    assert find_clip(tiny_store, "clip 7") == 7
    numbered = replace(tiny_store, info=replace(tiny_store.info, clip_names=tuple(map(str, range(24, 0, -1)))))
    assert find_clip(numbered, "24") == 0  # a name wins over a number
    for text in ("24", "-1"):
        with pytest.raises(ConfigError, match=f"no clip {text} .* clips are 0 to 23"):
            find_clip(tiny_store, text)
    with pytest.raises(ConfigError, match="no clip 'clip 77' .* such as clip 7"):
        find_clip(tiny_store, "clip 77")


def test_a_clip_is_named_with_its_class(two_bodies):
    assert clip_title(two_bodies, 2) == "clip 2  |  stand  |  3 frames"
    assert clip_title(two_bodies, 3) == "clip 3  |  no label  |  4 frames"


def test_memory_does_not_grow_with_the_store(tmp_path, monkeypatch):
    monkeypatch.setattr(inspection, "_BLOCK_FRAMES", 1 << 10)
    store = Store.from_arrays(list(np.ones((40, 1000, 2, 25, 3), dtype=np.float32)), layout="ntu25")
    path = tmp_path / "large.safetensors"
    store.save(path)
    opened = Store.open(path)
    tracemalloc.start()
    found = inspect_store(opened, path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.intact
    assert peak < path.stat().st_size / 10
