"""Which joint layout an array has, by how many joints or numbers a frame has."""

from __future__ import annotations

from crrl_fast.data.layouts import LAYOUTS, Layout
from crrl_fast.data.readers.base import Request
from crrl_fast.errors import DataError


def layout_of_joints(request: Request, where: str, joints: int) -> Layout:
    """Return the layout that was asked for, or the only known one of so many joints.

    Raises:
        DataError: there is none, or the one that was asked for has another number.
    """
    fitting = [layout for layout in _choices(request) if layout.num_joints == joints]
    return _only(fitting, f"{where}: {joints} joints a body", request)


def layout_of_numbers(request: Request, where: str, numbers: int) -> Layout:
    """Return the layout that was asked for, or the only known one that fits ``numbers`` = bodies * joints * 3 a frame.

    Without one that was asked for, a frame has one body or two.

    Raises:
        DataError: there is none, or the one that was asked for does not fit.
    """
    bodies = range(1, numbers // 3 + 1) if request.joints else (1, 2)
    sizes = [3 * count for count in bodies]
    fitting = [layout for layout in _choices(request) if any(numbers == layout.num_joints * size for size in sizes)]
    return _only(fitting, f"{where}: {numbers} numbers a frame", request)


def _choices(request: Request) -> list[Layout]:
    return [request.joints] if request.joints else list(LAYOUTS.values())


def _only(fitting: list[Layout], what: str, request: Request) -> Layout:
    if len(fitting) == 1:
        return fitting[0]
    if request.joints:
        raise DataError(f"{what} do not fit joint layout {request.joints.name!r} ({request.joints.num_joints} joints)")
    if fitting:
        raise DataError(f"{what} fit several joint layouts: name one, --joints {' or '.join(x.name for x in fitting)}")
    known = ", ".join(f"{layout.name} ({layout.num_joints})" for layout in LAYOUTS.values())
    raise DataError(f"{what} fit no known joint layout: name yours with --joints; known are {known}")
