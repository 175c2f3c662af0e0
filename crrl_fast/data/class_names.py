"""Names of classes that files only number."""

from __future__ import annotations

from crrl_fast.data.ntu_actions import ACTIONS

_KNOWN = {"ntu60": ACTIONS[:60], "ntu120": ACTIONS}


def class_names_for(dataset: str, count: int) -> tuple[str, ...]:
    """Return names for the classes of a data set: NTU RGB+D's where it is that, else ``class 0``, ``class 1``, ...

    None at all where ``count``, the highest label plus 1, is 0: then nothing is labelled.
    """
    known = _KNOWN.get(dataset, ())
    return known if 0 < count <= len(known) else tuple(f"class {i}" for i in range(count))
