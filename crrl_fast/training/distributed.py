"""Several processes that train together, as torchrun starts them: who they are, what each does, and how they end."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from crrl_fast.errors import ConfigError, CrrlError, TrainingError
from crrl_fast.seeding import derive_seed

T = TypeVar("T")

TIMEOUT_VARIABLE = "CRRL_RANK_TIMEOUT"
"""Seconds that a step waits for another process before the run ends."""
DEFAULT_TIMEOUT = 60.0
_FAILURE = 2
# The others wait longer where one process does something for all: a probe, a checkpoint, a data set to generate.
_PATIENCE = timedelta(hours=1)
_LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_groups = itertools.count()


class Shard(NamedTuple):
    """A rank's part of a batch.

    Attributes:
        start: its first clip within the batch.
        stop: one past its last. A rank that has none for itself takes one all the same, because all ranks must take
            part in what they do together; its ``share`` is then 0.
        share: of the batch's clips that count here.
        counts: clips that count on each rank.
    """

    start: int
    stop: int
    share: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, seen from one of them; by default it is alone.

    All ranks hold the same weights, optimiser and queue, draw the same order of clips, and cut each batch of it into
    consecutive parts. A step is that of one process on the whole batch, to rounding: gradients and losses are means
    over the clips of all ranks.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
        local_rank: of this process among those of its machine, hence also the number of its GPU.
        patient: a group of them all for what may take long; None where there is one.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    patient: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that prints, logs, probes and saves."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other."""
        return self.size == 1

    def shard(self, clips: int) -> Shard:
        """Return this rank's part of a batch of ``clips`` clips; parts differ by a clip at most, larger ones first."""
        if self.is_alone:
            return Shard(0, clips, 1.0, (clips,))
        each, more = divmod(clips, self.size)
        counts = tuple(each + (rank < more) for rank in range(self.size))
        start = min(sum(counts[: self.rank]), clips - 1)
        return Shard(start, start + max(counts[self.rank], 1), counts[self.rank] / clips, counts)

    def parallel(self, module: nn.Module) -> nn.Module:
        """Return what runs ``module`` forward so that gradients become those of all ranks together."""
        if self.is_alone:
            return module
        # Buffers need no exchange: every rank computes the same. torch 2.13 renamed the argument that says so.
        names = inspect.signature(DistributedDataParallel).parameters
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
        options: dict[str, Any] = {"gradient_as_bucket_view": True, buffers: False}
        return DistributedDataParallel(module, **options)

    def weighted(self, losses: dict[str, Tensor], shard: Shard) -> dict[str, Tensor]:
        """Return what a part's mean losses add to those of the batch."""
        return losses if self.is_alone else {name: value * shard.share for name, value in losses.items()}

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of the sum of the ranks' ``loss``."""
        (loss if self.is_alone else loss * self.size).backward()  # DistributedDataParallel takes their mean

    def sum_(self, values: Tensor) -> Tensor:
        """Add the ``values`` of all ranks in place."""
        if not self.is_alone:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Wait until all ranks are here, for an hour if need be."""
        if not self.is_alone:
            dist.barrier(group=self.patient)

    def together(self, work: Callable[[], T], *, here: bool = True) -> T | None:
        """Do ``work``, wait until all ranks have done theirs, and return its result.

        Args:
            work: a ``CrrlError`` that it raises on one rank is raised on all.
            here: whether this rank does it; where not, None is returned.
        """
        if self.is_alone:
            return work() if here else None
        result, failure = None, None
        try:
            result = work() if here else None
        except CrrlError as error:
            failure = error
        failures: list[CrrlError | None] = [None] * self.size
        dist.all_gather_object(failures, failure, group=self.patient)
        for found in failures:
            if found is not None:
                raise found
        return result

    def from_first(self, work: Callable[[], T]) -> T:
        """Do ``work`` on the first rank alone, and return its result, or raise its ``CrrlError``, on all."""
        result = self.together(work, here=self.is_first)
        if not self.is_alone:
            results = [result]
            dist.broadcast_object_list(results, src=0, group=self.patient)
            (result,) = results
        return cast(T, result)

    def seed_noise(self, seed: int, purpose: str) -> None:
        """Give torch's generators on every rank but the first a seed of their own, so that dropout masks differ."""
        if not self.is_first:
            torch.manual_seed(derive_seed(seed, f"{purpose}/rank {self.rank}"))


ALONE = Ranks()


@contextlib.contextmanager
def joined_ranks(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun started, until the body ends; without torchrun this process is alone.

    A GPU run takes the GPU whose number is the local rank, and NCCL; others use gloo. Only one process says why a run
    has failed: the first that fails. The others then leave with exit code 2 and without a word. All but the first rank
    leave SIGINT and SIGTERM to it, and follow where it ends.

    Raises:
        ConfigError: there are fewer GPUs than processes, or the processes do not find each other.
        TrainingError: another process has ended, or has not answered for ``CRRL_RANK_TIMEOUT`` seconds.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or any(name not in os.environ for name in _LAUNCHED):
        yield ALONE
        return
    timeout = _timeout()
    store, ranks = _join(device, timeout)
    try:
        with _signals_left_to_first(ranks):
            yield ranks
    except BaseException as error:
        told = error
        if isinstance(error, RuntimeError) and _is_lost_contact(error):
            told = TrainingError(
                "lost contact with another process of this run, which was killed, failed, or did not answer for "
                f"{timeout:g} s ({TIMEOUT_VARIABLE}): --resume goes on from the last checkpoint"
            )
        if not _speaks(store):
            raise SystemExit(_FAILURE) from None
        if told is error:
            raise
        raise told from error
    dist.destroy_process_group()


def _timeout() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE, str(DEFAULT_TIMEOUT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _PATIENCE.total_seconds():
        raise ConfigError(f"{TIMEOUT_VARIABLE}={text!r}: give seconds above 0, at most {_PATIENCE.total_seconds():.0f}")
    return seconds


def _join(device: torch.device, timeout: float) -> tuple[Store, Ranks]:
    """Meet the other processes and return a store that all share, and the ranks."""
    local_rank = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    if device.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise ConfigError(
                f"process {local_rank} of this machine has no GPU of its own: torch sees {torch.cuda.device_count()}; "
                f"give torchrun --nproc-per-node {torch.cuda.device_count()}, or --device cpu"
            )
        torch.cuda.set_device(local_rank)
    if dist.is_initialized():
        raise ConfigError("torch.distributed is in use: pretraining sets it up itself, so end that group before")
    try:
        store, rank, size = next(rendezvous("env://", timeout=_PATIENCE))
        # A process may train several times; what they leave in the store must not meet.
        store = PrefixStore(f"crrl_fast/{next(_groups)}", store)
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout),
        )
        patient = dist.new_group(backend="gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"the processes of this run do not find each other ({reason})") from error
    return store, Ranks(rank, size, local_rank, patient)


def _speaks(store: Store) -> bool:
    """Whether this process is the first to fail; so it is where the store, and whoever kept it, is gone."""
    try:
        return bool(store.add("failures", 1) == 1)
    except RuntimeError:
        return True


def _is_lost_contact(error: RuntimeError) -> bool:
    # gloo raises a plain RuntimeError, which names the file of its own that it comes from.
    return isinstance(error, dist.DistError) or "gloo" in str(error)


@contextlib.contextmanager
def _signals_left_to_first(ranks: Ranks) -> Iterator[None]:
    """Let the first rank end with a word at SIGTERM, and the others when it has ended.

    torchrun sends SIGTERM where a process has ended early, and SIGKILL half a minute later.
    """
    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise TrainingError(
            "stopped by SIGTERM, or because another process has ended: --resume goes on where there is a checkpoint"
        )

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if ranks.is_first:
        signal.signal(signal.SIGTERM, stop)
    else:
        _ignore(before)
    try:
        yield
    except BaseException:
        _ignore(before)  # for good: torchrun's SIGTERM must not come before the line that says why
        raise
    for number, handler in before.items():
        signal.signal(number, handler)


def _ignore(numbers: Iterable[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
