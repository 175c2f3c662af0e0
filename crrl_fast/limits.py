"""How much is taken from files that anybody may have written; ``CRRL_LIMITS`` raises a limit where real data needs it.

The defaults leave the data sets that the readers know, NTU RGB+D 120 among them, an order of magnitude of room.
"""

from __future__ import annotations

import os
import re
from functools import cache

from crrl_fast.errors import ConfigError

VARIABLE = "CRRL_LIMITS"
DEFAULTS = {
    "clip": 64 << 20,
    "labels": 16 << 20,
    "record": 16 << 20,
    "toml": 256 << 10,
    "header": 32 << 20,
    "directory": 32 << 20,
    "array": 16 << 30,
    "encoder": 4 << 30,
    "checkpoint": 32 << 30,
    "ratio": 300,
    "objects": 30_000_000,
}
"""Bytes, but for ``ratio`` and ``objects``.

``clip``: one clip's file, also unpacked from an archive. ``labels``: a table of labels. ``record``: one JSON file of a
run folder. ``toml``: a recipe or a joint layout. ``header``: that of a safetensors file. ``directory``: that of a zip
archive. ``array``: an array that is unpacked as a whole. ``encoder``: weights. ``checkpoint``: one file of a
checkpoint. ``ratio``: how many times its size an archive may unpack to. ``objects``: instructions of a pickle.
"""

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def limit(name: str) -> int:
    """Return a limit: that of ``CRRL_LIMITS``, for instance ``clip=1G,ratio=2000``, or the default.

    Raises:
        ConfigError: the variable is malformed or names another limit.
    """
    return _limits(os.environ.get(VARIABLE, ""))[name]


def raising(name: str) -> str:
    """Return how a user raises a limit, for the end of a message."""
    return f"if it is right, raise the limit with {VARIABLE}={name}=..."


@cache
def _limits(text: str) -> dict[str, int]:
    limits = dict(DEFAULTS)
    for item in filter(None, map(str.strip, text.split(","))):
        match = re.fullmatch(r"(\w+)=(\d{1,12})([KMGT]?)", item)
        if match is None or match[1] not in DEFAULTS:
            raise ConfigError(
                f"{VARIABLE}: {item!r} is not NAME=NUMBER, with K, M, G or T behind the number where it is bytes, and "
                f"one of the names {', '.join(DEFAULTS)}"
            )
        limits[match[1]] = int(match[2]) * _UNITS[match[3]]
    return limits
