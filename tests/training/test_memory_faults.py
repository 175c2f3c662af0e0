"""Memory that does not suffice: which batch did not fit, and which would."""

import copy
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import crrl_fast
from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips, resident_split
from crrl_fast.data.store import Store
from crrl_fast.errors import DeviceMemoryError, TrainingError
from crrl_fast.training import pretrain as pretraining
from crrl_fast.training.checkpoint import checkpoints_in, read_checkpoint
from crrl_fast.training.distributed import Ranks
from crrl_fast.training.graphs import GraphRecorder
from crrl_fast.training.keeper import CheckpointKeeper
from crrl_fast.training.out_of_memory import largest_batch_that_fits
from crrl_fast.training.stages import ContrastiveMotionLearner, SequenceReconstructor
from tests.conftest import one_line_error, random_walks
from tests.training.runs import SMALL, metrics, pretrain
from tests.training.test_graphs import HostRecorder

CUDA_SAYS = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB."


def limit_clips(monkeypatch, most, stage=SequenceReconstructor, after=0):
    """Give the device memory for so many clips of a step, from some step on."""
    taken, forward = [], stage.forward

    def limited(self, batch):
        taken.append(len(batch.lengths))
        if len(taken) > after and len(batch.lengths) > most:
            raise torch.OutOfMemoryError(CUDA_SAYS)
        return forward(self, batch)

    monkeypatch.setattr(stage, "forward", limited)
    return taken


def test_the_batch_that_fits_is_measured_and_the_run_goes_on_with_it(crrl, tiny_path, tmp_path, monkeypatch):
    start = ["pretrain", "--data", tiny_path, "--out", "run", "--stages", "ser", "--device", "cpu"]
    for name, value in {**SMALL, "batch_size": 16}.items():
        start += ["--set", f"{name}={value}"]
    with monkeypatch.context() as patch:
        limit_clips(patch, 5, after=2)
        one_line_error(
            crrl(*start, "--checkpoint-every", 1),
            "ser, epoch 3, step 1: out of memory: a batch of 16 clips of 12 frames does not fit on the host (",
            "batch_size=5 was measured to fit; run is saved up to ser epoch 3, step 0: "
            "`crrl-fast pretrain --resume run --set batch_size=5 --force` goes on from there",
        )
        (*_, newest) = checkpoints_in(Path("run"))
        assert (read_checkpoint(newest).state.epoch, read_checkpoint(newest).state.step) == (3, 0)
        code, _, error = crrl("pretrain", "--resume", "run", "--set", "batch_size=5", "--force")
    assert code == 0, error
    assert [row["epoch"] for row in metrics(Path("run"))] == [1, 2, 3]


def test_a_run_without_a_checkpoint_begins_anew_in_its_folder(crrl, tiny_path, tmp_path, monkeypatch):
    limit_clips(monkeypatch, 3)
    start = ["pretrain", "--data", tiny_path, "--out", "run", "--stages", "ser", "--set", "epochs=1", "--device", "cpu"]
    again = "`crrl-fast pretrain --resume run --set batch_size=3 --force` begins it anew"
    one_line_error(crrl(*start), "epoch 1, step 1", f"run has no checkpoint yet: {again}")
    code, out, error = crrl("pretrain", "--resume", "run", "--set", "batch_size=3", "--force")
    assert code == 0, error
    assert "going on from the beginning" in out


def test_not_even_one_clip(tiny_path, tmp_path, monkeypatch):
    limit_clips(monkeypatch, 0)
    with pytest.raises(DeviceMemoryError, match="not even one clip would fit: lower max_frames; ") as error:
        pretrain(tiny_path, tmp_path / "run", stages=("ser",))
    assert "--force" not in str(error.value)


@pytest.mark.parametrize("fits", range(17))
def test_measuring_comes_near_and_leaves_module_and_generators(tiny_store, monkeypatch, fits):
    recipe = Recipe(batch_size=17, hidden_size=4, queue_size=5)
    clips = ResidentClips(tiny_store, torch.arange(24), tiny_store.frames)
    module = ContrastiveMotionLearner(clips.width, recipe)
    before, random = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    taken = limit_clips(monkeypatch, fits, ContrastiveMotionLearner)
    found = largest_batch_that_fits(module, clips, recipe, 17)
    assert fits - fits // 4 <= found <= fits
    assert max(taken) < 17
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in module.parameters())


def test_measuring_takes_the_longest_clips(tiny_store, monkeypatch):
    clips = ResidentClips(tiny_store, torch.arange(24), tiny_store.frames)
    seen, forward = [], SequenceReconstructor.forward

    def watched(self, batch):
        seen.append((batch.coords.shape[1], batch.lengths.tolist()))
        return forward(self, batch)

    monkeypatch.setattr(SequenceReconstructor, "forward", watched)
    recipe = Recipe(hidden_size=4)
    largest_batch_that_fits(SequenceReconstructor(clips.width, recipe), clips, recipe, 4)
    assert seen[0] == (12, sorted(tiny_store.lengths.tolist(), reverse=True)[:2])


def test_one_of_several_processes_measures_its_part_by_itself(tiny_store, monkeypatch):
    clips = ResidentClips(tiny_store, torch.arange(24), tiny_store.frames)
    recipe = Recipe(hidden_size=4, queue_size=5)
    module = ContrastiveMotionLearner(clips.width, recipe)
    limit_clips(monkeypatch, 2, ContrastiveMotionLearner)
    assert largest_batch_that_fits(module, clips, recipe, 11, Ranks(rank=1, size=3)) == 6


def test_an_error_that_is_none_of_memory_stays_what_it_is(tiny_path, tmp_path, monkeypatch):
    def broken(self, batch):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(SequenceReconstructor, "forward", broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2") as error:
        pretrain(tiny_path, tmp_path / "run", stages=("ser",))
    assert not isinstance(error.value, TrainingError)


class FailingCapture:
    """What torch.cuda.graph does where the work within it fails: it raises once more where the capture ends."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        pass

    def __exit__(self, *_):
        raise RuntimeError("CUDA error: operation failed due to a previous error during capture")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (torch.OutOfMemoryError(CUDA_SAYS), torch.OutOfMemoryError, "Tried to allocate"),
        (RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), RuntimeError, "CUDNN_STATUS_ALLOC_FAILED"),
        (RuntimeError("operation not permitted"), TrainingError, r"CUDA graph \(operation not permitted\)"),
    ],
)
def test_a_capture_that_lacks_memory_says_so(monkeypatch, error, kind, message):
    monkeypatch.setattr(torch.cuda, "Stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", FailingCapture)

    def work():
        raise error

    with pytest.raises(kind, match=message):
        GraphRecorder().capture(work)


def test_a_capture_in_a_run_is_measured_with_captures(tiny_path, tmp_path, monkeypatch):
    """The pool of the graphs takes memory of its own: batches of four fit, but not beside their capture."""
    from crrl_fast.training import graphs, loop, out_of_memory

    class Recorder(HostRecorder):
        def capture(self, work):
            with pytest.MonkeyPatch.context() as patch:
                limit_clips(patch, 2)
                work()  # and fails, or is only tried: it is replayed afterwards
            return super().capture(work)

    def graphed(step, clips, recipe):
        return graphs.GraphedStep(step, clips.longest, Recorder())

    monkeypatch.setattr(loop, "best_way_to_take", graphed)
    monkeypatch.setattr(out_of_memory, "best_way_to_take", graphed)
    with pytest.raises(DeviceMemoryError, match=r"a batch of 4 clips .* batch_size=2 was measured to fit"):
        pretrain(tiny_path, tmp_path / "run", stages=("ser",), batch_size=4)


def test_frames_that_do_not_fit_on_the_device(tiny_store, monkeypatch):
    def full(self, device):
        raise torch.OutOfMemoryError(CUDA_SAYS)

    monkeypatch.setattr(torch.Tensor, "to", full)
    with pytest.raises(DeviceMemoryError, match=r"data set 'tiny': its frames, .* do not fit on the host .*downsample"):
        resident_split(tiny_store, None, torch.device("cpu"))


def test_memory_that_is_lacking_between_steps(tiny_path, tmp_path, monkeypatch):
    """In a probe, for instance; what was saved before is kept."""
    with monkeypatch.context() as patch:

        def full(*_):
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")

        patch.setattr(pretraining, "nearest_neighbour_accuracy", full)
        with pytest.raises(DeviceMemoryError, match="ser: out of memory between training steps.* no checkpoint yet"):
            pretrain(tiny_path, tmp_path / "run", stages=("ser",), probe_every=1)
        patch.setattr(CheckpointKeeper, "save", lambda *_: full())
        with pytest.raises(DeviceMemoryError, match="ser: out of memory between training steps"):
            crrl_fast.pretrain(resume=tmp_path / "run", force=True, probe_every=0, checkpoint_every=1, quiet=True)
    crrl_fast.pretrain(resume=tmp_path / "run", force=True, quiet=True)


LIMITED = """
import resource, sys
from pathlib import Path
import crrl_fast.training.pretrain, tensorboard.summary.writer.record_writer
from crrl_fast import cli
from crrl_fast.training.loop import StageLoop
run = StageLoop.run
def limited(self, **options):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (100 << 20),) * 2)
    return run(self, **options)
StageLoop.run = limited
cli.main()
"""


def test_a_host_that_has_no_more(tmp_path):
    """Without any pretence: a process that may map 100 MB more than it does as it begins to train."""
    Store.from_arrays(random_walks(256, longest=128), layout="kinect20").save(tmp_path / "many.safetensors")
    asked = ["--stages", "ser", "--set", "batch_size=256", "--set", "max_frames=128", "--device", "cpu"]
    data, run = tmp_path / "many.safetensors", tmp_path / "run"
    command = [sys.executable, "-c", LIMITED, "pretrain", "--data", data, "--out", run, *asked]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # stacks of threads would count, too
    for _ in range(3):
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        if ran.returncode != -signal.SIGSEGV:  # libraries do not all look at what they are given
            break
        shutil.rmtree(run)
    assert ran.returncode == 2, ran.stderr
    (line,) = ran.stderr.splitlines()
    assert "ser, epoch 1, step 1: out of memory: a batch of 256 clips of 128 frames does not fit on the host" in line
    assert 0 < int(re.search(r"batch_size=(\d+) was measured to fit", line)[1]) < 256
