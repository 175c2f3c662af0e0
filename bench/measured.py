"""Run `crrl-fast` in a process of its own and write what it took as JSON; `bench/readers.py` starts it.

    python bench/measured.py RESULT.json prepare NAME SOURCE ...

Seconds count from where Python and its libraries are loaded. Peak memory is the kernel's high-water mark of this
process alone (VmHWM of proc(5), Linux); `getrusage` would count the process that started it, too.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from pathlib import Path


def peak_bytes() -> int:
    """Return the most memory that this process has held so far."""
    match = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    if match is None:
        raise RuntimeError("no VmHWM in /proc/self/status")
    return int(match[1]) * 1024


def main() -> None:
    """Import, run, and write the record whatever the exit code."""
    import crrl_fast.data.catalog
    import crrl_fast.data.preparation  # noqa: F401
    from crrl_fast import cli

    result = Path(sys.argv[1])
    sys.argv = ["crrl-fast", *sys.argv[2:]]
    loaded = peak_bytes()
    began = time.perf_counter()
    try:
        cli.main()
    finally:
        seconds = time.perf_counter() - began
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        record = {
            "seconds": seconds,
            "peak_bytes": peak_bytes(),
            "loaded_bytes": loaded,
            "child_peak_bytes": children.ru_maxrss * 1024,
        }
        result.write_text(json.dumps(record))


if __name__ == "__main__":
    main()
