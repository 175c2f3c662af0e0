"""Pickles read without running anything: NumPy arrays and plain containers, and nothing else.

A pickle is a program for a small stack machine. Python's own unpickler hands that program every function that it names;
the machine here knows only the instructions that build numbers, text, containers and arrays, and refuses a file that
names any other function.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn, TypeGuard

import numpy as np

from crrl_fast.data.readers.pickled_arrays import FUNCTIONS, TYPES, Named, keys, set_array_state, set_dtype_state
from crrl_fast.errors import DataError
from crrl_fast.files import open_regular
from crrl_fast.limits import limit, raising

# Instructions whose argument is the value itself.
_LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
_VALUES: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}


def load_pickle(path: Path) -> Any:  # noqa: ANN401
    """Return what a pickle file holds.

    Raises:
        DataError: the file cannot be read, is damaged, or asks for anything but arrays and plain containers.
    """
    try:
        with open_regular(path) as file:
            return unpickle(file, path.stat().st_size, str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def unpickle(file: IO[bytes], size: int, where: str) -> Any:  # noqa: ANN401
    """Return what a pickle holds.

    Args:
        file: read from where it stands.
        size: bytes that are left in it; what the pickle copies may be no more than twice as many.
        where: names the file in messages.

    Raises:
        DataError: it is damaged, or asks for anything but arrays and plain containers.
        OSError: the file cannot be read; so too what else its ``read`` raises.
    """
    try:
        return _Machine(where, size).run(_Bounded(file, size))
    except (ValueError, TypeError, LookupError, OverflowError, struct.error, MemoryError, RecursionError) as error:
        raise DataError(f"{where}: a damaged pickle, or none ({error or type(error).__name__})") from error


def are_names(items: object) -> TypeGuard[Sequence[str]]:
    """Return whether ``items`` are texts in a row, as names of clips must be."""
    return isinstance(items, list | tuple | np.ndarray) and all(isinstance(item, str) for item in items)


class _Bounded:
    """A file that is never asked for more than is left in it: Python allocates what it asks for first."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def read(self, count: int) -> bytes:
        return self._taken(self._file.read(min(count, self._left)))

    def readline(self) -> bytes:
        return self._taken(self._file.readline())

    def _taken(self, content: bytes) -> bytes:
        self._left -= len(content)
        return content


class _Machine:
    def __init__(self, where: str, size: int) -> None:
        self.where = where
        self.budget = 2 * size
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: _Bounded) -> Any:  # noqa: ANN401
        most = limit("objects")
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):  # type: ignore[arg-type]
            if count == most:
                raise ValueError(f"more than {most} instructions; {raising('objects')}")
            name = opcode.name
            if name in _LITERALS:
                self.stack.append(argument)
            elif name in _VALUES:
                self.stack.append(_VALUES[name]())
            elif name in _INSTRUCTIONS:
                _INSTRUCTIONS[name](self, argument)
            elif name == "STOP":
                return self.stack.pop()
            elif name == "INST":
                self.refuse(str(argument).replace(" ", "."))
            else:
                self.refuse(f"the instruction {name}")
        raise ValueError("it has no end")

    def refuse(self, what: str) -> NoReturn:
        raise DataError(
            f"{self.where}: its pickle asks for {what}, but only NumPy arrays and plain containers are read from a "
            "pickle. Nothing was run. Do not open the file elsewhere unless you trust where it came from; if it is "
            "your own, save its arrays with np.save or np.savez"
        )

    def spend(self, amount: int) -> None:
        """Count what is copied: a short program could copy one long string again and again."""
        self.budget -= amount
        if self.budget < 0:
            raise ValueError("it unpacks to more than the file")

    def mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def marked_items(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.marked_items()

    def top(self, kind: type) -> Any:  # noqa: ANN401
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"a {type(self.stack[-1]).__name__} where a {kind.__name__} must stand")
        return self.stack[-1]

    def wrap(self, count: int) -> None:
        if len(self.stack) < count:
            raise ValueError("its stack is empty")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def collect(self, convert: Callable[[list[Any]], object]) -> None:
        items = self.marked_items()
        self.stack.append(convert(items))

    def extend(self, kind: type, items: list[Any]) -> None:
        target = self.top(kind)
        if kind is list:
            target.extend(items)
        else:
            target.update(_pairs(items) if kind is dict else keys(items))

    def extend_last(self, kind: type, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)]
        self.extend(kind, items[::-1])

    def name(self, module: str, name: str) -> None:
        named = Named(module, name)
        if named not in FUNCTIONS and named not in TYPES:
            self.refuse(str(named))
        self.stack.append(named)

    def name_from_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(str(module), str(name))

    def call(self) -> None:
        arguments = self.stack.pop()
        function = self.top(Named)
        if function not in FUNCTIONS:
            self.refuse(f"a call of {function}")
        self.stack[-1] = FUNCTIONS[function](self.spend, *arguments)

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is np.ndarray and isinstance(state, tuple):
            set_array_state(self.spend, target, state)
        elif isinstance(target, np.dtype) and isinstance(state, tuple):
            set_dtype_state(target, state)
        else:
            self.refuse(f"a {type(target).__name__} to be given a state")


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(keys(items[::2]), items[1::2], strict=True))


_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, version: None,
    "FRAME": lambda machine, size: None,
    "MARK": lambda machine, _: machine.mark(),
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.marked_items().clear(),
    **dict.fromkeys(
        ("PUT", "BINPUT", "LONG_BINPUT"), lambda machine, index: machine.memo.update({index: machine.stack[-1]})
    ),
    "MEMOIZE": lambda machine, _: machine.memo.update({len(machine.memo): machine.stack[-1]}),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, index: machine.stack.append(machine.memo[index])),
    "TUPLE1": lambda machine, _: machine.wrap(1),
    "TUPLE2": lambda machine, _: machine.wrap(2),
    "TUPLE3": lambda machine, _: machine.wrap(3),
    "TUPLE": lambda machine, _: machine.collect(tuple),
    "LIST": lambda machine, _: machine.collect(list),
    "DICT": lambda machine, _: machine.collect(_pairs),
    "FROZENSET": lambda machine, _: machine.collect(lambda items: frozenset(keys(items))),
    "APPEND": lambda machine, _: machine.extend_last(list, 1),
    "APPENDS": lambda machine, _: machine.extend(list, machine.marked_items()),
    "ADDITEMS": lambda machine, _: machine.extend(set, machine.marked_items()),
    "SETITEM": lambda machine, _: machine.extend_last(dict, 2),
    "SETITEMS": lambda machine, _: machine.extend(dict, machine.marked_items()),
    "GLOBAL": lambda machine, named: machine.name(*named.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name_from_stack(),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
}
