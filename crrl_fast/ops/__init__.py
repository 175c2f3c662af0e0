"""The fused ops. Each runs compiled code on the devices it was built for, and its plain-PyTorch reference elsewhere."""

from crrl_fast.ops.gru import gru
from crrl_fast.ops.gru_scan import gru_scan, gru_scan_supported
from crrl_fast.ops.info_nce import queue_info_nce
from crrl_fast.ops.motion_diff import motion_diff
from crrl_fast.ops.skeleton_views import skeleton_views
from crrl_fast.reference.gru import GruOutput
from crrl_fast.reference.skeleton_views import SkeletonViews
from crrl_fast.views import ViewParams, sample_view_params

__all__ = [
    "GruOutput",
    "SkeletonViews",
    "ViewParams",
    "gru",
    "gru_scan",
    "gru_scan_supported",
    "motion_diff",
    "queue_info_nce",
    "sample_view_params",
    "skeleton_views",
]
