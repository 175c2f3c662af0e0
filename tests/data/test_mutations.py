"""Damaged files of every array layout end in clips or in DataError, never in a crash, a hang or a huge allocation.

``CRRL_MUTATIONS`` sets how many files of each variant are tried; 1,000 and more are for a nightly run.
"""

import os
import resource
import shutil

import numpy as np
import pytest

from crrl_fast.data import catalog, preparation
from crrl_fast.data.readers import READERS
from crrl_fast.errors import DataError
from tests.data.foreign import make_clips, write_crrl, write_ctrgcn, write_pyskl, write_stgcn
from tests.data.mutations import mutate_file

COUNT = int(os.environ.get("CRRL_MUTATIONS", "40"))
CLIPS = make_clips(6)
MOST_GROWTH = 512 << 10  # KiB of resident memory
VARIANTS = {
    "st-gcn": lambda path: write_stgcn(path / "xsub", CLIPS, num_frame=True),
    "st-gcn, npy": lambda path: write_stgcn(path / "xsub", CLIPS, labels="npy"),
    "ctr-gcn": lambda path: write_ctrgcn(path / "a.npz", CLIPS),
    "ctr-gcn, compressed": lambda path: write_ctrgcn(
        path / "a.npz", CLIPS, axes="NTMVC", one_hot=None, compressed=True
    ),
    "pyskl, 0": lambda path: write_pyskl(path / "a.pkl", CLIPS, protocol=0),
    "pyskl, 2": lambda path: write_pyskl(path / "a.pkl", CLIPS, protocol=2),
    "pyskl, 4": lambda path: write_pyskl(path / "a.pkl", CLIPS, protocol=4),
    "pyskl, 5": lambda path: write_pyskl(path / "a.pkl", CLIPS, protocol=5),
    "crrl": lambda path: write_crrl(path / "a", CLIPS),
    "crrl, lists": lambda path: write_crrl(path / "a", CLIPS, as_lists=True),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_damaged_files_end_in_clips_or_in_an_error(tmp_path, variant):
    source = VARIANTS[variant](tmp_path)
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    contents = [file.read_bytes() for file in files]
    rng = np.random.default_rng(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = set()
    for _ in range(COUNT):
        i = rng.integers(len(files))
        files[i].write_bytes(mutate_file(files[i].name, contents[i], rng))
        findings = preparation.Findings()
        for reader in READERS.values():
            reader.recognise(source)
        try:
            recording, _ = catalog.open_recording(
                "ntu60", source, layout=variant.split(",")[0], report=findings.report, skip=findings.skip
            )
            preparation.check(recording, findings, dataset="ntu60")
            outcomes.add("problems" if findings.problems else "clips")
        except DataError:
            outcomes.add("error")
        files[i].write_bytes(contents[i])
    assert outcomes - {"clips"}  # damage was done, and was noticed
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_GROWTH
    shutil.rmtree(tmp_path)
