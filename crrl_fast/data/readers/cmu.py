"""CMU mocap (mocap.cs.cmu.edu): one ASF skeleton a subject, one AMC motion a trial, as joint positions in metres.

Files are named ``02.asf`` and ``02_01.amc``. An AMC does not say its rate; the database says 120 Hz. It also says
that fingers and thumbs were not captured: what the files have for them is made up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from crrl_fast.data.clip import UNKNOWN, Clip
from crrl_fast.data.info import Split
from crrl_fast.data.layouts import CMU31
from crrl_fast.data.readers.asf import Matrix, Skeleton, parse_motion, parse_skeleton
from crrl_fast.data.readers.base import Reader, Request
from crrl_fast.data.readers.label_table import LabelTable, read_labels
from crrl_fast.data.readers.source import list_files, open_source
from crrl_fast.data.recording import Recording
from crrl_fast.errors import DataError

RECORDED_FPS = 120
FPS = 30
FOLDS = 4

_STRIDE = RECORDED_FPS // FPS

_TRIAL = re.compile(r"(?P<subject>\d{1,6})_(?P<trial>\d{1,6})", re.ASCII)


def recognise(source: Path) -> str | None:
    """Look for ``.asf`` and ``.amc`` files."""
    suffixes = [PurePosixPath(path).suffix for path in list_files(source)]
    motions, skeletons = suffixes.count(".amc"), suffixes.count(".asf")
    return f"CMU mocap: {motions} motions of {skeletons} skeletons" if motions and skeletons else None


def read(request: Request) -> Recording:
    """Read the zip or folder in the order of the motions' paths, every fourth frame, so that 30 a second remain.

    Labels come from ``request.labels``, a CSV or the database's index text (``02_01<TAB>walk``). Trials that it does
    not list are skipped: such a list is what makes one of the benchmarks that were drawn from the database. Without
    labels all trials are read.

    The splits are those of a 4-fold cross-validation, ``fold0`` to ``fold3`` by the fold that is the test part. Trials
    are dealt out to the folds in the order of their classes and names, so that every class is spread evenly; no
    official folds are known.

    Problems name the file and line: a motion without its skeleton, a frame that lacks a bone, a number that is none.

    Raises:
        DataError: the source holds no motion, or the labels cannot be read or are of other trials.
    """
    motions = [path for path in list_files(request.source) if path.endswith(".amc")]
    trials = sorted(PurePosixPath(path).stem for path in motions)
    table = None if request.labels is None else read_labels(request.labels, (".amc",))
    class_names = table.class_names(trials) if table is not None else []
    folds = _folds(trials, table)
    splits = {
        f"fold{test}": Split("fold", tuple(fold for fold in range(FOLDS) if fold != test)) for test in range(FOLDS)
    }
    return Recording(CMU31, _clips(request, table, class_names, folds), len(motions), class_names, FPS, splits)


READER = Reader("cmu", "CMU mocap, ASF skeletons and AMC motions", recognise, read)


def _folds(trials: Sequence[str], table: LabelTable | None) -> dict[str, int]:
    """Return the fold of each trial: trials are dealt out by class and name."""
    if table is not None:
        trials = sorted((trial for trial in trials if table.key(trial) is not None), key=lambda t: (table.label(t), t))
    return {trial: i % FOLDS for i, trial in enumerate(trials)}


def _clips(
    request: Request, table: LabelTable | None, class_names: Sequence[str], folds: Mapping[str, int]
) -> Iterator[Clip]:
    index = {name: i for i, name in enumerate(class_names)}
    with open_source(request.source, ".asf", ".amc") as files:
        skeletons = _Skeletons(request.source, dict(files))
        for path, content in files:
            trial = PurePosixPath(path).stem
            if path.endswith(".asf"):
                continue
            if trial not in folds:
                request.skip(trial, f"not listed in {request.labels}")
                continue
            try:
                where = f"{request.source}: {path}"
                match = _TRIAL.fullmatch(trial)
                if match is None:
                    raise DataError(f"{where}: the name is not SUBJECT_TRIAL.amc, for instance 02_01.amc")
                skeleton = skeletons.find(path, match["subject"])
                coords = _positions(where, skeleton, parse_motion(where, content(), skeleton))
                yield Clip(
                    name=trial,
                    coords=coords[:, None],
                    label=UNKNOWN if table is None else index.get(table.label(trial), UNKNOWN),
                    subject=int(match["subject"]),
                    replication=int(match["trial"]),
                    fold=folds[trial],
                )
            except DataError as problem:
                request.report(problem)


class _Skeletons:
    """The skeletons of a source, each parsed once."""

    def __init__(self, source: Path, files: Mapping[str, Callable[[], bytes]]) -> None:
        self._source = source
        self._files = files
        self._parsed: dict[str, Skeleton] = {}

    def find(self, motion: str, subject: str) -> Skeleton:
        """Return the skeleton of a motion: that of its subject, in its folder or, where none is there, in any."""
        name = f"{subject}.asf"
        beside = PurePosixPath(motion).with_name(name).as_posix()
        elsewhere = (path for path in self._files if PurePosixPath(path).name == name)
        path = beside if beside in self._files else next(elsewhere, None)
        if path is None:
            raise DataError(f"{self._source}: {motion}: its skeleton {name} is not in the source")
        if path not in self._parsed:
            where = f"{self._source}: {path}"
            skeleton = parse_skeleton(where, self._files[path]())
            _check_bones(where, skeleton)
            self._parsed[path] = skeleton
        return self._parsed[path]


def _check_bones(where: str, skeleton: Skeleton) -> None:
    """Raise DataError where a skeleton has other bones than the database's."""
    joints = CMU31.joints
    expected = {joints[child]: joints[parent] for child, parent in CMU31.bones}
    found = {name: bone.parent for name, bone in skeleton.bones.items() if bone.parent is not None}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise DataError(
                f"{where}: bone {name!r} hangs on {found.get(name, 'nothing')!r}, "
                f"in CMU's skeleton on {expected.get(name, 'nothing')!r}"
            )


def _positions(where: str, skeleton: Skeleton, motion: Mapping[str, Matrix]) -> npt.NDArray[np.float32]:
    """Return the joints of the frames that are kept, (T, 31, 3)."""
    names = list(skeleton.bones)
    order = [names.index(joint) for joint in CMU31.joints]
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is reported below
        positions = skeleton.positions({bone: values[::_STRIDE] for bone, values in motion.items()})
        coords = positions[:, order].astype(np.float32)
    finite = np.isfinite(coords)
    if not finite.all():
        frame, joint, _ = np.argwhere(~finite)[0]
        raise DataError(
            f"{where}: frame {frame * _STRIDE + 1}: a number that is not finite, or beyond reason, puts joint "
            f"{CMU31.joints[joint]!r} nowhere"
        )
    return coords
