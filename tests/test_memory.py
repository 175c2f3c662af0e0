import numpy as np
import pytest
import torch

from crrl_fast import cli, memory
from crrl_fast.memory import available_memory, device_memory, is_out_of_memory
from tests.conftest import one_line_error

REAL = (
    lambda: torch.empty(1 << 60),
    lambda: np.empty(1 << 56),
    lambda: bytearray(1 << 60),
)
ERRORS = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: error code 12"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
)


@pytest.mark.parametrize("work", REAL)
def test_what_allocators_raise_is_known(work):
    with pytest.raises((RuntimeError, MemoryError)) as error:
        work()
    assert is_out_of_memory(error.value)


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_what_devices_say_is_known(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [None, ValueError("out of memory"), RuntimeError("shapes differ"), KeyError("memory")]
)
def test_other_errors_are_others(error):
    assert not is_out_of_memory(error)


def test_the_host_says_what_it_has(monkeypatch, tmp_path):
    assert available_memory() > 1 << 20
    assert device_memory(torch.device("cpu")).startswith("the host (")
    monkeypatch.setattr(memory, "Path", lambda _: tmp_path / "absent")
    assert available_memory() is None
    assert device_memory(torch.device("cpu")) == "the host"


def test_a_gpu_says_what_it_has(cuda):
    assert "GB, of which this process holds" in device_memory(cuda)


@pytest.mark.parametrize("error", [*ERRORS, MemoryError()], ids=str)
def test_any_command_ends_in_one_line(crrl, monkeypatch, error):
    def fail(**_):
        raise error

    monkeypatch.setattr(cli, "app", fail)
    one_line_error(crrl("doctor"), "crrl-fast: out of memory: end other programs")
