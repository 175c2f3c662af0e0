"""The inputs each op is measured on. A new op is one file here, and one line below."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from crrl_fast.benchmark.cases import info_nce, motion_diff, skeleton_views
from crrl_fast.benchmark.harness import Case

OP_CASES: dict[str, Callable[[torch.device], Iterator[Case]]] = {
    "motion_diff": motion_diff.cases,
    "queue_info_nce": info_nce.cases,
    "skeleton_views": skeleton_views.cases,
}
