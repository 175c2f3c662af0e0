"""The fused ops. Each runs compiled code on the devices it was built for, and its plain-PyTorch reference elsewhere."""

from crrl_fast.ops.motion_diff import motion_diff

__all__ = ["motion_diff"]
