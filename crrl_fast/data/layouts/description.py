"""A joint layout of the user's own, described in a TOML file.

joints = ["pelvis", "chest", "head", "hip_left", "hip_right"]   # in the order of the coordinates
bones = [["chest", "pelvis"], ["head", "chest"], ["hip_left", "pelvis"], ["hip_right", "pelvis"]]   # child, parent
mirror = [["hip_left", "hip_right"]]                            # left, right
center = ["pelvis"]                                             # the hip centre: the mean of these joints
spine_top = ["chest"]                                           # between the shoulders, likewise
hips = ["hip_left", "hip_right"]                                # left, right
name = "my-rig"                                                 # optional; default: the file's name
"""

from __future__ import annotations

from pathlib import Path

from crrl_fast.data.layouts.known import LAYOUTS
from crrl_fast.data.layouts.layout import MAX_JOINTS, Layout
from crrl_fast.errors import DataError, shown
from crrl_fast.files import MALFORMED, read_toml

_KEYS = ("joints", "bones", "mirror", "center", "spine_top", "hips")


def read_layout(path: Path) -> Layout:
    """Read the layout that a TOML file describes.

    Raises:
        DataError: the file cannot be read, or a value is not what it should be; the message names file, key and value.
    """
    try:
        values = read_toml(path)
    except (OSError, *MALFORMED) as error:
        raise DataError(f"{path}: cannot read this joint layout ({error})") from error
    for key in values:
        if key not in (*_KEYS, "name"):
            raise DataError(f"{path}: unknown key `{key}`: a joint layout has {', '.join(_KEYS)} and name")
    for key in _KEYS:
        if key not in values:
            raise DataError(f"{path}: `{key}` is missing: a joint layout has {', '.join(_KEYS)}")
    return _Description(path, values).layout()


class _Description:
    """The values of a file and the numbers of its joints."""

    def __init__(self, path: Path, values: dict[str, object]) -> None:
        self.path = path
        self.values = values
        self.joints = self._strings("joints", values["joints"])
        if len(self.joints) > MAX_JOINTS:
            raise self._error("joints", f"{len(self.joints)} of them", f"are more than {MAX_JOINTS}")
        self.index: dict[str, int] = {}
        for i, joint in enumerate(self.joints):
            if self.index.setdefault(joint, i) != i:
                raise self._error("joints", joint, "stands twice")

    def layout(self) -> Layout:
        """Return the layout."""
        name = self.values.get("name", self.path.stem)
        if not isinstance(name, str) or not name:
            raise self._error("name", name, "is not a name")
        if name in LAYOUTS:
            raise self._error("name", name, "is the name of a built-in layout: give yours another")
        return Layout(
            name=name,
            joints=tuple(self.joints),
            bones=self._bones(),
            mirror=self._mirror(),
            center=self._points("center"),
            spine_top=self._points("spine_top"),
            hips=self._pair("hips", self.values["hips"]),
        )

    def _bones(self) -> tuple[tuple[int, int], ...]:
        parents: dict[int, int] = {}
        for bone in self._list("bones"):
            child, parent = self._pair("bones", bone)
            if child in parents:
                raise self._error("bones", bone, f"gives joint {self.joints[child]!r} a second parent")
            ancestor = parent
            while ancestor in parents:
                ancestor = parents[ancestor]
            if ancestor == child:
                raise self._error("bones", bone, "closes a cycle")
            parents[child] = parent
        return tuple(parents.items())

    def _mirror(self) -> tuple[tuple[int, int], ...]:
        pairs, paired = [], set[int]()
        for item in self._list("mirror"):
            pair = self._pair("mirror", item)
            for joint in pair:
                if joint in paired:
                    raise self._error("mirror", item, f"pairs joint {self.joints[joint]!r} a second time")
            paired.update(pair)
            pairs.append(pair)
        return tuple(pairs)

    def _points(self, key: str) -> tuple[int, ...]:
        return tuple(self._joint(key, joint) for joint in self._strings(key, self.values[key]))

    def _pair(self, key: str, value: object) -> tuple[int, int]:
        if not isinstance(value, list) or len(value) != 2 or value[0] == value[1]:
            raise self._error(key, value, "is not a pair of two joints")
        return self._joint(key, value[0]), self._joint(key, value[1])

    def _joint(self, key: str, value: object) -> int:
        if not isinstance(value, str) or value not in self.index:
            raise self._error(key, value, "is not one of `joints`")
        return self.index[value]

    def _list(self, key: str) -> list[object]:
        value = self.values[key]
        if not isinstance(value, list):
            raise self._error(key, value, "is not a list")
        return value

    def _strings(self, key: str, value: object) -> list[str]:
        if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
            raise self._error(key, value, "is not a list of joint names")
        return value

    def _error(self, key: str, value: object, what: str) -> DataError:
        return DataError(f"{self.path}: `{key}`: {shown(value)} {what}")
