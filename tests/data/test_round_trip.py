"""The same clips through the layouts of several projects come out the same."""

from dataclasses import replace

import numpy as np
import pytest

from crrl_fast.data import catalog
from tests.data.foreign import write_crrl, write_ctrgcn, write_pyskl, write_stgcn

WRITERS = {
    "st-gcn": lambda folder, clips, frames: write_stgcn(folder, clips, frames=frames),
    "ctr-gcn": lambda folder, clips, frames: write_ctrgcn(folder / "NTU60_CS.npz", clips, frames=frames),
    "pyskl": lambda folder, clips, frames: write_pyskl(folder / "ntu60.pkl", clips),
    "crrl": lambda folder, clips, frames: write_crrl(folder, clips),
}


@pytest.mark.parametrize("layout", WRITERS)
def test_raw_ntu_clips_survive_every_layout(tmp_path, real_data, layout):
    recording, _ = catalog.open_recording("ntu60", real_data("ntu_raw"))
    clips = [replace(clip, fold=int(i % 3 == 2)) for i, clip in enumerate(recording.clips)]
    assert len(clips) > 10
    folder = tmp_path / "xsub"
    folder.mkdir()
    source = WRITERS[layout](folder, clips, max(len(clip.coords) for clip in clips))
    again, _ = catalog.open_recording("ntu60", source)
    by_coords = {clip.coords.tobytes(): clip for clip in again.clips}
    assert len(by_coords) == len(clips)
    for clip in clips:
        same = by_coords[np.ascontiguousarray(clip.coords).tobytes()]
        assert (same.label, same.fold) == (clip.label, clip.fold)
    assert again.class_names[:2] == ("drink water", "eat meal/snack")
