"""What is fuzzed: for each target a sample that is good, and what reads it. A new target is a line in TARGETS."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.foreign import LAYOUTS, ntu_clips
from crrl_fast.data import readers
from crrl_fast.data.layouts import KINECT20, get_layout
from crrl_fast.data.packing import Packer
from crrl_fast.data.preparation import Findings, check
from crrl_fast.data.readers.base import Request
from crrl_fast.data.store import Store
from tests.conftest import random_walks
from tests.hostile import READINGS

SAMPLE_FRAMES = 12
"""Readers of raw recordings take bodies of fewer than about ten for noise."""


@dataclass(frozen=True)
class Target:
    """Something to damage and read.

    Attributes:
        write: writes a good sample into a folder and returns the file or folder to read.
        read: reads it and returns ``clips`` or ``problems``, or raises; ``collect`` is whether problems are noted, as
            under ``--check``, or end the reading.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path, bool], str]


def _layout_target(name: str) -> Target:
    def write(folder: Path) -> Path:
        clips = [replace(clip, coords=clip.coords[:SAMPLE_FRAMES]) for clip in ntu_clips(144)[::64]]
        return LAYOUTS[name].write(folder, clips).source

    def read(source: Path, collect: bool) -> str:
        for reader in readers.READERS.values():
            reader.recognise(source)
        findings = Findings()
        joints = LAYOUTS[name].joints
        options: dict[str, Callable[..., object]] = {"report": findings.report} if collect else {}
        request = Request(
            source=source,
            dataset=LAYOUTS[name].dataset,
            joints=None if joints is None else get_layout(joints),
            skip=findings.skip,
            workers=1,
            **options,
        )
        recording = readers.READERS[LAYOUTS[name].reader].read(request)
        if collect:
            check(recording, findings, dataset="fuzz")
            return "problems" if findings.problems else "clips"
        packer = Packer("fuzz", recording.layout, len(recording.class_names), (), sink=lambda frames: None)
        for clip in recording.clips:
            packer.add(clip)
        return "clips"

    return Target(write, read)


def _reading(kind: str, write: Callable[[Path], Path]) -> Target:
    def read(source: Path, collect: bool) -> str:
        READINGS[kind](source)
        return "clips"

    return Target(write, read)


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
    run = make_run(folder / "run", _store(), stages=("ser",), hidden_size=2)
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


TARGETS: dict[str, Target] = {
    **{name: _layout_target(name) for name in LAYOUTS},
    "store": _reading("store", _write_store),
    "run": _reading("run", _write_run),
    "report": _reading("report", _write_run),
    "recipe": _reading("recipe", _write_recipe),
    "joint layout": _reading("layout", _write_layout),
    "labels": _reading("labels", _write_labels),
}
