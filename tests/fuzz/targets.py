"""What is fuzzed: for each target a sample that is good, what damages it, and what reads it.

A new target is a line in TARGETS.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bench.foreign import LAYOUTS, Foreign, Written, ntu_clips
from crrl_fast.data import readers
from crrl_fast.data.layouts import KINECT20, get_layout
from crrl_fast.data.packing import Packer
from crrl_fast.data.preparation import Findings, check
from crrl_fast.data.readers.base import Request
from crrl_fast.data.store import Store
from crrl_fast.errors import CrrlError, DataError
from tests.conftest import random_walks
from tests.data import foreign, foreign_own
from tests.fuzz.damage import Files, damaged_sources
from tests.hostile import READINGS
from tests.property_based import st
from tests.training.runs import interrupted

SAMPLE_FRAMES = 12
"""Readers of raw recordings take bodies of fewer than about ten for noise."""


@dataclass(frozen=True)
class Target:
    """Something to damage and read.

    Attributes:
        write: writes a good sample into an empty folder and returns the file or folder to read.
        read: reads it, or raises a CrrlError.
        damaged: the strategy for what the files of the folder may become.
        writes: whether reading may write into the folder.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], object]
    damaged: Callable[[Files], st.SearchStrategy[Files]] = damaged_sources
    writes: bool = False


# ---- Clips ----


def _variant(name: str, write: Callable[[Path], Path], **changes: str) -> Foreign:
    return replace(LAYOUTS[name], write=lambda folder, clips: Written(write(folder), ()), **changes)


def _write_array(folder: Path) -> Path:
    path = folder / "x.npz"
    coords = np.random.default_rng(0).normal(size=(2, SAMPLE_FRAMES, 25, 3)).astype(np.float32)
    np.savez_compressed(path, data=coords, lengths=[SAMPLE_FRAMES, 1], labels=["a", "b"])
    return path


def _write_npy(folder: Path) -> Path:
    return foreign_own.write_clips(folder / "mine", _own_clips(), ".npy")


def _write_mediapipe(folder: Path) -> Path:
    return foreign_own.write_clips(folder / "mine", _own_clips(), ".json", mediapipe=True)


def _zipped(write: Callable[[Path], Path]) -> Callable[[Path], Path]:
    def write_zip(folder: Path) -> Path:
        source = write(folder)
        archive = foreign_own.zip_folder(source)
        shutil.rmtree(source)
        return archive

    return write_zip


def _own_clips() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(frames, 25, 3)).astype(np.float32) for name, frames in (("a", 3), ("b", 2))}


def _write_pku_mmd(folder: Path) -> Path:
    frames = np.random.default_rng(0).normal(size=(20, 2, 25, 3))
    labels = {"0291-M": [(1, 2, 14)], "0334-R": [(2, 0, 12)]}
    lists = {"cross-view.txt": (["0291-M"], ["0334-R"])}
    return foreign_own.write_pku(folder / "pku", dict.fromkeys(labels, frames), labels, lists)


CLIPS = foreign.make_clips(6)
SOURCES: dict[str, Foreign] = {
    **LAYOUTS,
    "st-gcn: npy": _variant("st-gcn", lambda folder: foreign.write_stgcn(folder / "x", CLIPS, labels="npy")),
    "st-gcn: lengths": _variant("st-gcn", lambda folder: foreign.write_stgcn(folder / "x", CLIPS, num_frame=True)),
    "ctr-gcn: compressed": _variant(
        "ctr-gcn",
        lambda folder: foreign.write_ctrgcn(folder / "x.npz", CLIPS, axes="NTMVC", one_hot=None, compressed=True),
    ),
    **{
        f"pyskl: protocol {protocol}": _variant(
            "pyskl", lambda folder, protocol=protocol: foreign.write_pyskl(folder / "x.pkl", CLIPS, protocol=protocol)
        )
        for protocol in (0, 2, 5)
    },
    "crrl: lists": _variant(
        "crrl", lambda folder: foreign.write_crrl(folder / "x", CLIPS, as_lists=True), dataset="ntu60"
    ),
    "pku-mmd: zip": _variant("pku-mmd", _zipped(_write_pku_mmd)),
    "cmu: zip": _variant("cmu", _zipped(lambda folder: foreign_own.write_cmu(folder / "cmu", {"05_02": 2}))),
    "clips: one array": _variant("clips: npz", _write_array),
    "clips: npy": _variant("clips: npz", _write_npy),
    "clips: landmarks": _variant("clips: npz", _write_mediapipe),
    "clips: zip": _variant("clips: npz", _zipped(_write_mediapipe)),
}
"""Every layout, and what else its reader takes."""


def _clips_target(name: str) -> Target:
    source = SOURCES[name]

    def write(folder: Path) -> Path:
        clips = [replace(clip, coords=clip.coords[:SAMPLE_FRAMES]) for clip in ntu_clips(144)[::64]]
        return source.write(folder, clips).source

    def read(path: Path) -> None:
        for reader in readers.READERS.values():
            reader.recognise(path)
        joints = None if source.joints is None else get_layout(source.joints)
        request = Request(source=path, dataset=source.dataset, joints=joints, workers=1)
        reader = readers.READERS[source.reader]
        # As under --check, which notes problems and reads on; then as without, where the first one ends it.
        findings = Findings()
        with suppress(CrrlError):
            noting = replace(request, report=findings.report, skip=findings.skip)
            check(reader.read(noting), findings, dataset="fuzz")
        recording = reader.read(request)
        packer = Packer("fuzz", recording.layout, len(recording.class_names), (), sink=lambda frames: None)
        for clip in recording.clips:
            packer.add(clip)
        if findings.problems:
            raise DataError(findings.problems[0])

    return Target(write, read)


# ---- What the package writes itself ----


def _store() -> Store:
    return Store.from_arrays(random_walks(4), layout=replace(KINECT20, name="own"), labels=[0, 1, 0, 1])


def _write_store(folder: Path) -> Path:
    _store().save(folder / "x.safetensors")
    return folder / "x.safetensors"


def _write_run(folder: Path) -> Path:
    # What reading imports is imported here, before there is a clock: the processes that read are forked from this one.
    import crrl_fast.embedding
    import crrl_fast.report.page  # noqa: F401
    from crrl_fast.report.build import require_report_packages
    from tests.embedding.runs import make_run

    require_report_packages()
    run = make_run(folder / "run", _store(), stages=("ser",), hidden_size=2, feature="both", whitening=0.5)
    (run.path / "metrics.jsonl").write_text(
        "".join(
            json.dumps({"stage": "ser", "epoch": epoch, "loss": 1 / epoch, "lr": 0.1}) + "\n" for epoch in range(1, 5)
        )
    )
    record = {
        **{"evaluation": "knn", "protocol": "nearest neighbour", "run": "run", "encoder": "ser", "dataset": "own"},
        **{"split": None, "train_clips": 4, "test_clips": 4, "class_names": ["a", "b"], "accuracy": 75.0, "k": 1},
        **{"per_class": [50.0, None], "confusion": [[1, 1], [0, 2]], "versions": {}},
        "streams": [{"run": "run", "encoder": "ser", "stream": "joint", "weight": 1.0, "accuracy": 75.0}],
    }
    semi = {**record, "fractions": [{"percent": 5, "clips": 2, "accuracies": [1.0, 2.0], "mean": 1.5, "std": 0.5}]}
    found = {**record, "evaluation": "retrieval", "map": 50.0, "recall": {"1": 50.0, "5": 60.0}}
    (run.path / "eval").mkdir()
    for i, values in enumerate((record, {**semi, "evaluation": "semi"}, found)):
        (run.path / "eval" / f"{i}.json").write_text(json.dumps(values, indent=1))
    return run.path


def _write_recipe(folder: Path) -> Path:
    (folder / "x.toml").write_text(
        'epochs = 20\nlr = 0.02\nlr_milestones = [10, 15]\nstream = "bone"\nkey_mlp_momentum = true\n'
    )
    return folder / "x.toml"


def _write_layout(folder: Path) -> Path:
    names = list(KINECT20.joints)
    values = {
        "joints": names,
        "bones": [[names[child], names[parent]] for child, parent in KINECT20.bones],
        "mirror": [[names[left], names[right]] for left, right in KINECT20.mirror],
        "center": [names[joint] for joint in KINECT20.center],
        "spine_top": [names[joint] for joint in KINECT20.spine_top],
        "hips": [names[joint] for joint in KINECT20.hips],
    }
    (folder / "x.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    return folder / "x.toml"


def _write_labels(folder: Path) -> Path:
    rows = "".join(f"a/{i},wave {i % 3},{i}\n" for i in range(20))
    (folder / "x.csv").write_text(f"name,label,subject\n{rows}")
    return folder / "x.csv"


def _write_interrupted(stage: str, folder: Path) -> Path:
    """Leave a run within the last epoch of ``stage``, with one checkpoint."""
    sizes = {"epochs": 2, "batch_size": 2, "hidden_size": 2, "queue_size": 3, "lr": 0.1, "keep": 1, "whitening": 0.5}
    path = folder / "run"
    with pytest.MonkeyPatch.context() as patch:
        interrupted(patch, _store(), path, 3 if stage == "cml" else 7, stages=("cml", "inf"), **sizes)
    return path


@st.composite
def _damaged_checkpoints(draw, files: Files) -> Files:
    """Damage what a run is gone on from; mostly its hashes are made to fit, as whoever forges it would."""
    parts = {path: content for path, content in files.items() if "/checkpoints/" in path or path.count("/") == 1}
    for passive in [path for path in parts if path.endswith(("config.json", "metrics.jsonl")) or "events" in path]:
        del parts[passive]
    damaged = dict(draw(damaged_sources(parts)))
    if draw(st.integers(0, 4)) < 4:
        for hashes in [path for path in damaged if path.endswith(".sha256")]:
            hashed = [hashes.replace(".sha256", suffix) for suffix in (".safetensors", ".pt")]
            lines = [f"{hashlib.sha256(damaged[x]).hexdigest()}  {Path(x).name}\n" for x in hashed if x in damaged]
            damaged[hashes] = "".join(lines).encode()
    return {**{path: content for path, content in files.items() if path not in parts}, **damaged}


TARGETS: dict[str, Target] = {
    **{name: _clips_target(name) for name in SOURCES},
    "store": Target(_write_store, READINGS["store"]),
    "run": Target(_write_run, READINGS["run"]),
    "report": Target(_write_run, READINGS["report"]),
    **{
        f"resume: {stage}": Target(
            partial(_write_interrupted, stage), READINGS["resume"], _damaged_checkpoints, writes=True
        )
        for stage in ("cml", "inf")
    },
    "recipe": Target(_write_recipe, READINGS["recipe"]),
    "joint layout": Target(_write_layout, READINGS["layout"]),
    "labels": Target(_write_labels, READINGS["labels"]),
}
