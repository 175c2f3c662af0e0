"""What the package reads of strangers."""

from collections.abc import Callable
from pathlib import Path


def read_clips(path: Path) -> None:
    """Read a folder, an archive or an array of clips to its end."""
    from crrl_fast.data import catalog

    recording, _ = catalog.open_recording("own", path, joints="kinect20", workers=1)
    for _ in recording.clips:
        pass


def read_store(path: Path) -> None:
    """Open a store and take hold of all that it says."""
    from crrl_fast.data.store import Store

    store = Store.open(path)
    for name in (None, *store.info.splits):
        store.split(name)
    for i in range(len(store)):
        store.clip(i).sum()


def read_run(path: Path) -> None:
    """Open a run folder, load its encoder and encode two clips."""
    import numpy as np

    import crrl_fast
    from crrl_fast.run import RunFolder

    run = RunFolder.open(path)
    frames = run.config.frames
    clip = np.ones((3, frames.bodies, frames.layout.num_joints, 3), np.float32)
    crrl_fast.load(run, device="cpu").encode([clip, clip[:1]])


def read_report(path: Path) -> None:
    """Read a run folder as a report does, and render what it has to say without its store."""
    from crrl_fast.report.build import require_report_packages
    from crrl_fast.report.collect import read_run as collect_run
    from crrl_fast.report.page import RunView, render
    from crrl_fast.run import RunFolder

    require_report_packages()
    render([RunView(collect_run(RunFolder.open(path), "run", None), "no store", None)], [])


def read_records(path: Path) -> None:
    """Read the log and the evaluations of a run folder."""
    from crrl_fast.report.evaluations import read_evaluations
    from crrl_fast.report.metrics import read_metrics

    read_metrics(path / "metrics.jsonl")
    read_evaluations(path / "eval")


def resume_run(path: Path) -> None:
    """Go on with a run from its newest usable checkpoint, to its end."""
    import crrl_fast

    crrl_fast.pretrain(resume=path, device="cpu", quiet=True)


def read_recipe(path: Path) -> None:
    """Read a recipe as ``--config`` does."""
    from crrl_fast.config import Recipe, load_toml

    Recipe().with_overrides(load_toml(path))


def read_layout(path: Path) -> None:
    """Read a joint layout as ``--joints`` does, and find its joints in a known one."""
    from crrl_fast.data.layouts import get_layout, map_joints
    from crrl_fast.data.layouts import read_layout as read

    map_joints(get_layout("kinect20"), read(path))


def read_label_table(path: Path) -> None:
    """Read a table of labels."""
    from crrl_fast.data.readers.label_table import read_labels

    table = read_labels(path)
    table.class_names(table.labels)


READINGS: dict[str, Callable[[Path], None]] = {
    "clips": read_clips,
    "store": read_store,
    "run": read_run,
    "report": read_report,
    "records": read_records,
    "resume": resume_run,
    "recipe": read_recipe,
    "layout": read_layout,
    "labels": read_label_table,
}
"""Every kind of file that comes from elsewhere, and how it is read. Tests and fuzzing go through this list."""
