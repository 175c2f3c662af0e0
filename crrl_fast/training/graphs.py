"""CUDA graphs of the training step: one launch a step instead of some hundred."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.errors import TrainingError
from crrl_fast.memory import is_out_of_memory
from crrl_fast.training.step import TrainingStep

MAX_LENGTHS = 16
"""Padded lengths that graphs are made for. With whole batches and a last smaller one, at most twice as many graphs."""

_FRAME_MULTIPLE = 8


def best_way_to_take(step: TrainingStep, clips: ResidentClips, recipe: Recipe) -> Callable[[Tensor, int], None]:
    """Return what takes a step on clips at positions: replayed on a GPU, unless the recipe says no.

    Several processes launch their operations one by one: those that they do together are not captured.

    Args:
        step: of these clips.
        clips: the training clips.
        recipe: ``cuda_graphs``.
    """
    is_graphed = recipe.cuda_graphs and clips.device.type == "cuda" and not step.is_shared
    return GraphedStep(step, clips.longest, GraphRecorder()) if is_graphed else step


class GraphedStep:
    """A training step that is captured once for each shape and then replayed.

    A shape is a batch size and a number of frames, which is rounded up, so that there are few. The first step of a
    shape runs as it is, which is the warm-up that a capture needs; the second is captured and replayed. So no step is
    taken twice or undone.

    The graphs share one pool of memory: they are replayed one after the other on one stream, and what a step hands to
    the next lies outside of the pool.

    Args:
        step: what is captured.
        longest: frames of the longest clip.
        recorder: of its captures.
    """

    def __init__(self, step: TrainingStep, longest: int, recorder: GraphRecorder) -> None:
        self._step = step
        self._longest = longest
        self._recorder = recorder
        self._multiple = _FRAME_MULTIPLE * -(-longest // (_FRAME_MULTIPLE * MAX_LENGTHS))
        self._warm: set[tuple[int, int]] = set()
        self._replays: dict[tuple[int, int], Callable[[], None]] = {}

    def padded(self, frames: int) -> int:
        """Return the number of frames that a batch of ``frames`` is padded to."""
        return min(-(-frames // self._multiple) * self._multiple, self._longest)

    def __call__(self, position: Tensor, frames: int) -> None:
        """Take a step on the clips at ``position`` ((B) int64 on their device), the longest of ``frames`` frames."""
        shape = len(position), self.padded(frames)
        self._step.load(position)
        if shape not in self._warm:
            self._warm.add(shape)
            self._recorder.warm_up(lambda: self._step.run(*shape))
            return
        if shape not in self._replays:
            self._replays[shape] = self._recorder.capture(lambda: self._step.run(*shape))
        self._replays[shape]()


class GraphRecorder:
    """Captures work in CUDA graphs that share a pool of memory and the stream they are captured on."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Callable[[], None]) -> None:
        """Do the work on the stream of the captures, where libraries then have their workspaces ready."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return what does the work each time it is called; nothing is done yet.

        Raises:
            TrainingError: something in the work cannot be captured.
            torch.OutOfMemoryError: there is not enough memory for it.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                work()
        except RuntimeError as error:
            cause = error.__context__ or error  # ending a capture that has failed raises once more
            if is_out_of_memory(cause):
                raise cause from None
            reason = str(cause).splitlines()[0]
            raise TrainingError(
                f"the training step does not fit into a CUDA graph ({reason}): --set cuda_graphs=false goes without",
                "--set cuda_graphs=false",
            ) from error
        return graph.replay
