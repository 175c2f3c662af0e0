"""The fused ops. Each runs compiled code on the devices it was built for, and its plain-PyTorch reference elsewhere."""

from crrl_fast.ops.info_nce import queue_info_nce
from crrl_fast.ops.motion_diff import motion_diff

__all__ = ["motion_diff", "queue_info_nce"]
