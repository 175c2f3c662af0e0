"""Acclaim's ASF (a skeleton) and AMC (its motion), and the forward kinematics that turn both into joint positions.

The formats, as Acclaim and the CMU database define them: a bone has, at rest and in the world's axes, a direction, a
length and axes of its own, turned by C from the world's. A frame turns it by angles about those axes, M, so that its
orientation is that of its parent times C M C^-1, and its far end lies at its near end plus that times length times
direction. Angles turn about x, y and z in the order in which the file names them, about fixed axes: ``rx ry rz`` is
M = Rz Ry Rx. Lengths are in inches over the unit ``length`` of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from crrl_fast.data.readers.table import parse_table, text_lines
from crrl_fast.errors import DataError

Matrix = npt.NDArray[np.float64]

METRES_PER_INCH = 0.0254
_ROOT = "root"
_TURNS = ("rx", "ry", "rz")


@dataclass(frozen=True)
class Bone:
    """A bone of a skeleton at rest; the root is one of length 0.

    Attributes:
        parent: name of the bone at whose far end it begins; None for the root.
        offset: (3) from its near end to its far end, metres.
        axes: (3, 3) C, the orientation of its own axes.
        channels: what a frame gives for it, of ``tx`` ``ty`` ``tz`` ``rx`` ``ry`` ``rz``, in order.
    """

    parent: str | None
    offset: Matrix
    axes: Matrix
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Skeleton:
    """What an ASF file describes.

    Attributes:
        bones: by name; the root comes first and every bone after its parent.
        metres: what one unit of length of its motions is.
        radians: what one unit of angle is.
    """

    bones: dict[str, Bone]
    metres: float
    radians: float

    def positions(self, motion: Mapping[str, Matrix]) -> Matrix:
        """Return the far ends of all bones, (T, bones, 3) metres.

        Args:
            motion: for each bone with channels, their values (T, channels) as ``parse_motion`` returns them.
        """
        frames = len(motion[_ROOT])
        turned: dict[str, Matrix] = {}
        ends: dict[str, Matrix] = {}
        for name, bone in self.bones.items():
            values = dict(zip(bone.channels, motion[name].T, strict=True)) if bone.channels else {}
            turn = np.broadcast_to(np.eye(3), (frames, 3, 3))
            for channel in bone.channels:
                if channel in _TURNS:
                    turn = rotation(channel[1], values[channel] * self.radians) @ turn
            turn = bone.axes @ turn @ bone.axes.T
            if bone.parent is None:
                turned[name] = turn
                ends[name] = np.stack([values[f"t{axis}"] for axis in "xyz"], axis=1) * self.metres
            else:
                turned[name] = turned[bone.parent] @ turn
                ends[name] = ends[bone.parent] + turned[name] @ bone.offset
        return np.stack(list(ends.values()), axis=1)


def rotation(axis: str, angle: Matrix | float) -> Matrix:
    """Return the rotations (..., 3, 3) by angles (...), radians, about ``x``, ``y`` or ``z``, right-handed."""
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    angle = np.asarray(angle, dtype=np.float64)
    result = np.zeros((*angle.shape, 3, 3))
    result[...] = np.eye(3)
    result[..., i, i] = result[..., j, j] = np.cos(angle)
    result[..., j, i] = np.sin(angle)
    result[..., i, j] = -np.sin(angle)
    return result


def parse_skeleton(where: str, content: bytes) -> Skeleton:
    """Parse an ASF file.

    Raises:
        DataError: it is not one, or it uses what the CMU database does not (bones that stretch, a root that is turned
            or moved at rest); the message names file and line.
    """
    sections = _sections(where, content)
    metres, radians = _parse_units(sections[":units"])
    bones = {_ROOT: _parse_root(sections[":root"])}
    described = _parse_bones(sections[":bonedata"], metres, radians)
    parents = _parse_hierarchy(sections[":hierarchy"])
    while len(bones) <= len(described):  # the hierarchy need not name parents first
        ready = [name for name in described if name not in bones and parents.get(name) in bones]
        if not ready:
            lost = next(name for name in described if name not in bones)
            raise DataError(f"{where}: bone {lost!r} does not hang on the root")
        for name in ready:
            bones[name] = replace(described[name], parent=parents[name])
    return Skeleton(bones, metres, radians)


def parse_motion(where: str, content: bytes, skeleton: Skeleton) -> dict[str, Matrix]:
    """Parse an AMC file; return for each bone with channels their values, (T, channels).

    Raises:
        DataError: it is not the motion of that skeleton; the message names file and line.
    """
    lines = text_lines(content)
    first = next((i for i, line in enumerate(lines) if not line.startswith(("#", ":"))), len(lines))
    in_degrees = ":RADIANS" not in (line.strip().upper() for line in lines[:first])
    if in_degrees != (skeleton.radians != 1):
        raise DataError(f"{where}: its angles are in {'degrees' if in_degrees else 'radians'}, its skeleton's are not")
    moving = {name: bone for name, bone in skeleton.bones.items() if bone.channels}
    rows = [line.split(None, 1) for line in lines[first:]]
    names = [row[0] if row else "" for row in rows[1 : len(moving) + 1]]
    if set(names) != set(moving):
        missing = ", ".join(sorted(set(moving) - set(names)))
        raise DataError(f"{where}: line {first + 1}: its first frame has no {missing[:80]}")
    period = len(names) + 1
    for i, row in enumerate(rows):
        if i % period == 0 and not (len(row) == 1 and row[0].isdecimal()):
            raise DataError(f"{where}: line {first + i + 1}: {lines[first + i][:40]!r}, expected a frame's number")
        if i % period and (len(row) != 2 or row[0] != names[i % period - 1]):
            expected = names[i % period - 1]
            raise DataError(
                f"{where}: line {first + i + 1}: {lines[first + i][:40]!r}, expected {expected!r} and angles"
            )
    if len(rows) % period:
        raise DataError(f"{where}: line {len(lines)}: the file ends within a frame")
    motion = {}
    for k, name in enumerate(names, 1):
        numbers = range(first + k + 1, len(lines) + 1, period)
        values = [row[1] for row in rows[k::period]]
        motion[name] = parse_table(where, values, {len(moving[name].channels)}, numbers=numbers)
    return motion


@dataclass(frozen=True)
class _Line:
    """The words of a line, and the file and line for messages."""

    where: str
    words: list[str]

    def numbers(self, count: int) -> list[float]:
        """Return the numbers after the first word."""
        try:
            values = [float(word) for word in self.words[1 : count + 1]]
        except ValueError:
            values = []
        if len(values) != count or not np.isfinite(values).all():
            raise DataError(
                f"{self.where}: {' '.join(self.words)[:60]!r}, expected {self.words[0]!r} and {count} numbers"
            )
        return values


def _sections(where: str, content: bytes) -> dict[str, list[_Line]]:
    sections: dict[str, list[_Line]] = {}
    lines: list[_Line] = []
    for number, text in enumerate(text_lines(content), 1):
        words = text.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0].startswith(":"):
            lines = sections.setdefault(words[0].lower(), [])
        else:
            lines.append(_Line(f"{where}: line {number}", words))
    for name in (":units", ":root", ":bonedata", ":hierarchy"):
        if name not in sections:
            raise DataError(f"{where}: not an ASF skeleton: it has no section {name!r}")
    return sections


def _parse_units(lines: list[_Line]) -> tuple[float, float]:
    """Return metres a unit of length and radians a unit of angle."""
    metres, radians = METRES_PER_INCH, 1.0
    for line in lines:
        if line.words[0] == "length":
            (unit,) = line.numbers(1)
            if not unit > 0:
                raise DataError(f"{line.where}: unit of length {unit}, expected one above 0")
            metres = METRES_PER_INCH / unit
        elif line.words[0] == "angle":
            radians = np.pi / 180 if line.words[1:] == ["deg"] else 1.0
    return metres, radians


def _parse_root(lines: list[_Line]) -> Bone:
    channels: tuple[str, ...] = ()
    for line in lines:
        if line.words[0] == "order":
            channels = tuple(word.lower() for word in line.words[1:])
            if sorted(channels) != ["rx", "ry", "rz", "tx", "ty", "tz"]:
                raise DataError(
                    f"{line.where}: root order {' '.join(channels)}, expected TX TY TZ RX RY RZ in some order"
                )
        elif line.words[0] in ("position", "orientation") and any(line.numbers(3)):
            raise DataError(f"{line.where}: a root that is moved or turned at rest is not supported")
    if not channels:
        raise DataError(f"{lines[0].where if lines else 'root'}: the root has no `order`")
    return Bone(None, np.zeros(3), np.eye(3), channels)


def _parse_bones(lines: list[_Line], metres: float, radians: float) -> dict[str, Bone]:
    """Return the bones by name; their parents are still to come."""
    bones: dict[str, Bone] = {}
    block: dict[str, _Line] = {}
    for line in lines:
        if line.words[0] != "end":
            block[line.words[0]] = line
            continue
        for key in ("name", "direction", "length", "axis"):
            if key not in block:
                raise DataError(f"{line.where}: the bone that ends here has no `{key}`")
        name = " ".join(block["name"].words[1:])
        if not name or name in bones or name == _ROOT:
            raise DataError(f"{block['name'].where}: bone name {name!r} is empty or stands twice")
        (length,) = block["length"].numbers(1)
        offset = np.array(block["direction"].numbers(3)) * length * metres
        channels = tuple(word.lower() for word in block["dof"].words[1:]) if "dof" in block else ()
        if len(set(channels)) < len(channels) or not set(channels) <= set(_TURNS):
            raise DataError(
                f"{block['dof'].where}: dof {' '.join(channels)}, expected rx, ry and rz, each at most once"
            )
        bones[name] = Bone(None, offset, _parse_axes(block["axis"], radians), channels)
        block = {}
    return bones


def _parse_axes(line: _Line, radians: float) -> Matrix:
    angles = line.numbers(3)
    order = line.words[4].lower() if len(line.words) > 4 else ""
    if sorted(order) != ["x", "y", "z"]:
        raise DataError(f"{line.where}: axis order {order!r}, expected XYZ in some order")
    axes = np.eye(3)
    by_axis = dict(zip("xyz", angles, strict=True))
    for axis in order:
        axes = rotation(axis, by_axis[axis] * radians) @ axes
    return axes


def _parse_hierarchy(lines: list[_Line]) -> dict[str, str]:
    """Return the parent of each bone."""
    parents: dict[str, str] = {}
    for line in lines:
        for child in line.words[1:]:
            if child in parents:
                raise DataError(f"{line.where}: bone {child!r} has two parents")
            parents[child] = line.words[0]
    return parents
