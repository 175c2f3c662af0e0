"""What the names of NTU RGB+D's clips say: ``S001C002P003R002A013``, setup, camera, performer, replication, action."""

from __future__ import annotations

import re

_NAME = re.compile(
    r"S(?P<setup>\d{3})C(?P<camera>\d{3})P(?P<subject>\d{3})R(?P<replication>\d{3})A(?P<action>\d{3})(?!\d)"
)


def parse_ntu_name(name: str) -> dict[str, int]:
    """Return ``setup``, ``camera``, ``subject``, ``replication`` and ``action`` (from 1); empty for any other name."""
    match = _NAME.match(name)
    return {} if match is None else {field: int(value) for field, value in match.groupdict().items()}


def clip_fields(name: str) -> dict[str, int]:
    """Return what the name says of where and by whom a clip was recorded, as fields of ``Clip``."""
    return {field: value for field, value in parse_ntu_name(name).items() if field != "action"}
