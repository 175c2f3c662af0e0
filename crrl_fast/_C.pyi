# ruff: noqa: N999  (the compiled module has the private name that its package uses)
"""The compiled module; its ops are reached through ``torch.ops.crrl_fast``."""

from typing import Any

import numpy as np
import numpy.typing as npt

def build_info() -> dict[str, Any]: ...
def has_bfloat16_products() -> bool: ...
def parse_ntu_skeleton(
    content: bytes,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint64], npt.NDArray[np.float32]]: ...
