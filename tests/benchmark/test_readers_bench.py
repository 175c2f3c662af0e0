"""The round trip of bench/readers.py, on a few clips."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.foreign import LAYOUTS, ntu_clips
from crrl_fast.data import catalog
from crrl_fast.data.readers import READERS

ROOT = Path(__file__).parents[2]


def test_generated_clips_are_named_like_ntu():
    clips = ntu_clips(970)
    names = [clip.name for clip in clips]
    assert names == sorted(set(names))
    assert len(names) == 970
    assert {name[8:12] for name in names} == {f"P{subject:03}" for subject in range(1, 21)}
    assert {clip.replication for clip in clips} == {3, 4}


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_comes_back(name, tmp_path):
    if LAYOUTS[name].reader not in READERS:
        pytest.skip(f"{name} has no reader")
    layout = LAYOUTS[name]
    written = layout.write(tmp_path, ntu_clips(144)[::7])
    recording, _ = catalog.open_recording(layout.dataset, written.source, layout=layout.reader, joints=layout.joints)
    read = list(recording.clips)
    assert len(read) == len(written.clips)
    found, expected = ({clip.name: clip for clip in clips} for clips in (read, written.clips))
    by_name = set(found) == set(expected)
    for place, clip in enumerate(written.clips):
        back = found[clip.name] if by_name else read[place]
        np.testing.assert_allclose(back.coords[:, :1], clip.coords, rtol=0, atol=1e-6)
        assert not back.coords[:, 1:].any()
        assert back.label == clip.label


def test_the_bench_measures_what_came_back(tmp_path):
    command = [sys.executable, str(ROOT / "bench/readers.py"), "--clips", "5", "--rounds", "1", "--layouts", "ucla"]
    result = subprocess.run(
        [*command, "--json", tmp_path / "r.json", "--markdown", tmp_path / "r.md"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    (measured,) = json.loads((tmp_path / "r.json").read_text())["layouts"]
    assert (measured["clips"], measured["files"], measured["largest_error"]) == (5, 5, 0)
    assert measured["peak_bytes"] >= measured["loaded_bytes"] > 1 << 20
    assert "| ucla | 5 of 0 MB |" in (tmp_path / "r.md").read_text()


def test_a_wrong_coordinate_ends_the_bench(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    from readers import compare

    written = LAYOUTS["ucla"].write(tmp_path, ntu_clips(4))
    store = catalog.prepare("ucla", written.source, steps=())
    assert compare("ucla", store, written.clips) == 0
    last = written.clips[-1]
    for wrong, message in (
        (replace(last, coords=last.coords + np.float32(1e-4)), "error of"),
        (replace(last, coords=last.coords[1:]), "came back as"),
        (replace(last, label=9), "label"),
    ):
        with pytest.raises(SystemExit, match=message):
            compare("ucla", store, [*written.clips[:-1], wrong])
    with pytest.raises(SystemExit, match="3 clips were written, but 4 read"):
        compare("ucla", store, written.clips[:-1])
