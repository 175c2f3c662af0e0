"""The plain-PyTorch statement of every op: specification, fallback, test oracle and benchmark baseline."""

from crrl_fast.reference.gru import GruOutput, gru
from crrl_fast.reference.gru_scan import gru_scan
from crrl_fast.reference.info_nce import queue_info_nce
from crrl_fast.reference.motion_diff import motion_diff
from crrl_fast.reference.skeleton_views import SkeletonViews, skeleton_views

__all__ = ["GruOutput", "SkeletonViews", "gru", "gru_scan", "motion_diff", "queue_info_nce", "skeleton_views"]
