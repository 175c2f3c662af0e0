# ruff: noqa: N999  (the compiled module has the private name that its package uses)
"""The compiled module; its ops are reached through ``torch.ops.crrl_fast``."""

from typing import Any

def build_info() -> dict[str, Any]: ...
