"""Run `crrl-fast` in this process, and write after each epoch what the process holds; `bench/soak.py` starts it.

    python bench/soak_worker.py SAMPLES.jsonl cpu|cuda pretrain --data demo ...

A sample is taken where the epoch's record is logged: the step is done, the probe too where there is one, so that the
process is in the same state every time. Memory, descriptors and threads are those of proc(5), Linux.
"""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from crrl_fast import cli
from crrl_fast.benchmark.train.gemm import GemmRate
from crrl_fast.training import pretrain
from crrl_fast.training.log import MetricsLog

SIDE = {"cpu": 1024, "cuda": 4096}
"""Of the matrices whose product tells how fast the machine is at the time: a few percent of an epoch."""

_ROLLUP = {"rss": "Rss", "pss": "Pss"}
_PRIVATE = ("Private_Clean", "Private_Dirty")


@dataclass(frozen=True)
class Sample:
    """The process at the end of an epoch.

    Attributes:
        stage: under way.
        epoch: of the stage, from 1.
        ended: seconds of the monotonic clock.
        clips: trained on in the epoch.
        clips_per_second: of its steps, as ``metrics.jsonl`` has it.
        gemm_flops: operations per second of a ``torch.mm`` just afterwards: what the machine gives.
        rss: resident bytes.
        pss: of these, with each shared page divided by the number of its processes.
        uss: of these, the pages that no other process has.
        peak: the most resident bytes so far.
        descriptors: open files.
        threads: of the process.
        cuda_allocated: bytes in torch's tensors on the GPU; 0 without one.
        cuda_reserved: bytes that torch's allocator holds there.
    """

    stage: str
    epoch: int
    ended: float
    clips: int
    clips_per_second: float
    gemm_flops: float
    rss: int
    pss: int
    uss: int
    peak: int
    descriptors: int
    threads: int
    cuda_allocated: int = 0
    cuda_reserved: int = 0


def sample(record: dict[str, Any], gemm_flops: float) -> Sample:
    """Return what this process holds, beside the figures of an epoch's record."""
    rollup = _kilobytes(Path("/proc/self/smaps_rollup").read_text())
    status = _kilobytes(Path("/proc/self/status").read_text())
    on_gpu = torch.cuda.is_initialized()
    return Sample(
        stage=record["stage"],
        epoch=record["epoch"],
        ended=time.monotonic(),
        clips=round(record["clips_per_second"] * record["seconds"]),
        clips_per_second=record["clips_per_second"],
        gemm_flops=gemm_flops,
        **{name: rollup[field] for name, field in _ROLLUP.items()},
        uss=sum(rollup[field] for field in _PRIVATE),
        peak=status["VmHWM"],
        descriptors=len(list(Path("/proc/self/fd").iterdir())) - 1,  # but the folder's own
        threads=len(list(Path("/proc/self/task").iterdir())),
        cuda_allocated=torch.cuda.memory_allocated() if on_gpu else 0,
        cuda_reserved=torch.cuda.memory_reserved() if on_gpu else 0,
    )


def _kilobytes(table: str) -> dict[str, int]:
    """Return the sizes in a table of proc(5), in bytes."""
    return {name: int(size) * 1024 for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", table, re.MULTILINE)}


def main() -> None:
    """Run the command with a log that takes samples."""
    path, device = Path(sys.argv[1]), torch.device(sys.argv[2])
    gemm_rate = GemmRate(torch.float32, device, SIDE[device.type])  # draws before the stages seed the generator

    class SamplingLog(MetricsLog):
        def write(self, record: dict[str, Any]) -> None:
            super().write(record)
            with path.open("a") as file:
                file.write(json.dumps(asdict(sample(record, gemm_rate()))) + "\n")

    pretrain.MetricsLog = SamplingLog  # type: ignore[attr-defined]
    sys.argv = ["crrl-fast", *sys.argv[3:]]
    cli.main()


if __name__ == "__main__":
    main()
