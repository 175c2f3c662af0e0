"""PYSKL's lists of clip names, such as ``xsub_train`` and ``xsub_val``, as splits by one number a clip.

Clips that the same lists name get the same ``fold``; a split is then which folds train and which test. So the lists of
several protocols survive exactly, also where they leave out clips, as HMDB51's do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from crrl_fast.data.clip import UNKNOWN
from crrl_fast.data.info import Split

_PART = re.compile(r"(?P<before>.*?)_?(?P<part>train|val|test)_?(?P<after>.*)")
_DEFAULT = "file"


def folds_of(lists: Mapping[str, Sequence[str]]) -> tuple[dict[str, int], dict[str, Split]]:
    """Return the fold of each clip that a list names, and the splits; the first list's comes first.

    A split is named as its two lists are without ``train``, ``val`` and ``test``: ``xsub``, or ``file`` where no name
    is left. Where both ``val`` and ``test`` go with one ``train``, the split that tests on ``val`` is named so:
    ``file_val``.
    """
    membership: dict[str, list[str]] = {}
    for name, clips in lists.items():
        for clip in dict.fromkeys(clips):
            membership.setdefault(clip, []).append(name)
    codes: dict[tuple[str, ...], int] = {}
    folds = {clip: codes.setdefault(tuple(names), len(codes)) for clip, names in membership.items()}

    def folds_in(name: str) -> tuple[int, ...]:
        return tuple(code for names, code in codes.items() if name in names)

    splits = {}
    for protocol, parts in _protocols(lists).items():
        train = folds_in(parts.pop("train", ""))
        tests = {part: folds_in(name) for part, name in parts.items()} or {"": ()}
        for part, test in tests.items():
            splits[protocol if len(tests) == 1 or part == "test" else f"{protocol}_{part}"] = Split("fold", train, test)
    return folds, {name: split for name, split in splits.items() if split.train}


def _protocols(lists: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """Return the lists of each protocol by part; a list of another name is for training, a protocol of its own."""
    protocols: dict[str, dict[str, str]] = {}
    for name in lists:
        match = _PART.fullmatch(name)
        words = [match["before"], match["after"]] if match else [name]
        protocol = "_".join(word for word in words if word) or _DEFAULT
        protocols.setdefault(protocol, {})[match["part"] if match else "train"] = name
    return protocols


def fold_of(folds: Mapping[str, int], clip: str) -> int:
    """Return the fold of a clip, -1 where no list names it."""
    return folds.get(clip, UNKNOWN)
