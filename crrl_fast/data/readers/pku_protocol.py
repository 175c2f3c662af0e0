"""PKU-MMD's file names, classes and splits.

Its splits are lists of sequences that come with the data (folder ``Split``: ``cross-subject.txt`` and
``cross-view.txt``, in part II ``cross_subject_v2.txt`` and ``cross_view_v2.txt``). Where they are not at hand, the
rules that they come to stand in: cross-subject tests on sequences 291 to 334 of part I (132 files, the number in the
paper) and on subjects 2, 3 and 7 of part II; cross-view trains on the middle and right cameras and tests on the left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from crrl_fast.data.clip import UNKNOWN
from crrl_fast.data.info import Split
from crrl_fast.data.readers.table import text_lines
from crrl_fast.errors import DataError

TITLES = {"pku1": "PKU-MMD I", "pku2": "PKU-MMD II"}
CLASS_NAMES = (
    "bow",
    "brushing hair",
    "brushing teeth",
    "check time (from watch)",
    "cheer up",
    "clapping",
    "cross hands in front (say stop)",
    "drink water",
    "drop",
    "eat meal/snack",
    "falling",
    "giving something to other person",
    "hand waving",
    "handshaking",
    "hopping (one foot jumping)",
    "hugging other person",
    "jump up",
    "kicking other person",
    "kicking something",
    "make a phone call/answer phone",
    "pat on back of other person",
    "pickup",
    "playing with phone/tablet",
    "point finger at the other person",
    "pointing to something with finger",
    "punching/slapping other person",
    "pushing other person",
    "put on a hat/cap",
    "put something inside pocket",
    "reading",
    "rub two hands together",
    "salute",
    "sitting down",
    "standing up",
    "take off a hat/cap",
    "take off glasses",
    "take off jacket",
    "take out something from pocket",
    "taking a selfie",
    "tear up paper",
    "throw",
    "touch back (backache)",
    "touch chest (stomachache/heart pain)",
    "touch head (headache)",
    "touch neck (neckache)",
    "typing on a keyboard",
    "use a fan (with hand or paper)/feeling warm",
    "wear jacket",
    "wear on glasses",
    "wipe face",
    "writing",
)

_CAMERAS = {"L": 1, "M": 2, "R": 3}
_NAMES = {
    "pku1": re.compile(r"(?P<sequence>\d{4})-(?P<camera>[LMR])", re.ASCII),
    "pku2": re.compile(r"A(?P<sequence>\d\d)N(?P<subject>\d\d)-(?P<camera>[LMR])", re.ASCII),
}
_LIST_NAME = re.compile(r"cross[-_]?(?P<kind>subject|view)(?:[-_]?v(?P<part>[12]))?", re.IGNORECASE)
_TRAINING, _TEST = 0, 1


@dataclass(frozen=True)
class Origin:
    """What the name of a sequence says, in part II ``AxxNyy-C``, in part I ``xxxx-C``.

    Attributes:
        camera: 1 left, 2 middle, 3 right.
        subject: yy, -1 in part I.
        fold: 0 training or 1 test in the cross-subject split, by the rule that stands in for its list.
    """

    camera: int
    subject: int
    fold: int


def parse_name(part: str, stem: str) -> Origin | None:
    """Return what a file's name says, or None where it is not a sequence of that part."""
    match = _NAMES[part].fullmatch(stem)
    if match is None:
        return None
    if part == "pku1":
        subject, test = UNKNOWN, 291 <= int(match["sequence"]) <= 334
    else:
        subject = int(match["subject"])
        test = subject in (2, 3, 7)
    return Origin(_CAMERAS[match["camera"]], subject, _TEST if test else _TRAINING)


def list_kind(part: str, stem: str) -> str | None:
    """Return ``subject`` or ``view`` where a file's name is that of a split list of that part, otherwise None."""
    match = _LIST_NAME.fullmatch(stem)
    if match is None or match["part"] not in (None, part[-1]):
        return None
    return match["kind"].lower()


def parse_list(where: str, content: bytes) -> dict[str, int]:
    """Return the fold of each sequence that a split list names: 0 training, 1 test.

    A list is a line ``Training videos:`` and names between commas, then ``Validation videos:`` and names.

    Raises:
        DataError: it is no such list, or a name is in both parts.
    """
    folds: dict[str, int] = {}
    fold = UNKNOWN
    for number, line in enumerate(text_lines(content), 1):
        heading, colon, names = line.rpartition(":")
        if colon:
            fold = _TRAINING if heading.strip().lower().startswith("train") else _TEST
        for name in filter(None, (item.strip() for item in names.split(","))):
            if fold == UNKNOWN:
                raise DataError(f"{where}: line {number}: {name[:40]!r} comes before the heading `Training videos:`")
            if folds.setdefault(name, fold) != fold:
                raise DataError(f"{where}: line {number}: {name[:40]!r} is in both parts of the split")
    if len(set(folds.values())) != 2:
        raise DataError(f"{where}: not a split list: it needs `Training videos:` and `Validation videos:` with names")
    return folds


def splits_of(where: str, view_list: Mapping[str, int] | None) -> dict[str, Split]:
    """Return the splits: cross-subject by fold, cross-view by camera.

    Args:
        where: the cross-view list's file, for messages.
        view_list: fold of each sequence in it; None where there is none.

    Raises:
        DataError: the cross-view list does not divide the sequences by camera.
    """
    cameras: set[int] = {_CAMERAS["M"], _CAMERAS["R"]}
    if view_list is not None:
        by_fold: dict[int, set[int]] = {_TRAINING: set(), _TEST: set()}
        for name, fold in view_list.items():
            by_fold[fold].add(_CAMERAS.get(name[-1], UNKNOWN))
        cameras, test = by_fold[_TRAINING], by_fold[_TEST]
        if cameras & test or UNKNOWN in cameras | test:
            raise DataError(f"{where}: does not divide the sequences by their camera, -L, -M or -R")
    return {"xsub": Split("fold", (_TRAINING,)), "xview": Split("camera", tuple(sorted(cameras)))}
