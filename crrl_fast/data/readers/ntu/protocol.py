"""What NTU RGB+D prescribes: its actions, its splits, and the samples to leave out.

Shahroudy, Liu, Ng, Wang, CVPR 2016 (60 actions); Liu et al., TPAMI 2019 (120 actions).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from crrl_fast.data.info import Split
from crrl_fast.data.ntu_actions import ACTIONS

FPS = 30.0

_SUBJECTS_60 = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
# fmt: off
_SUBJECTS_120 = (
    *_SUBJECTS_60, 45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91,
    92, 93, 94, 95, 97, 98, 100, 103,
)
# fmt: on


@dataclass(frozen=True)
class Edition:
    """One of the two data sets.

    Attributes:
        name: in full.
        actions: how many, of those that ``ACTIONS`` lists.
        splits: the official ones by name.
    """

    name: str
    actions: int
    splits: Mapping[str, Split]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, in label order."""
        return ACTIONS[: self.actions]


NTU60 = Edition(
    "NTU RGB+D 60", 60, {"xsub": Split("subject", _SUBJECTS_60), "xview": Split(field="camera", train=(2, 3))}
)
NTU120 = Edition(
    "NTU RGB+D 120",
    120,
    {"xsub": Split("subject", _SUBJECTS_120), "xset": Split(field="setup", train=tuple(range(2, 33, 2)))},
)
EDITIONS = {"ntu60": NTU60, "ntu120": NTU120}


def load_missing() -> frozenset[str]:
    """Return the names of the samples that the authors list as having no or incomplete skeletons."""
    lines = Path(__file__).with_name("missing.txt").read_text().splitlines()
    return frozenset(name for line in lines if not line.startswith("#") for name in line.split())
