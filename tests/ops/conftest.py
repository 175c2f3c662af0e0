"""Devices for the op tests."""

import os

import pytest
import torch


@pytest.fixture
def cuda():
    """Return the GPU; without one the test skips, or fails where a GPU is required."""
    if not torch.cuda.is_available():
        if os.environ.get("CRRL_REQUIRE_CUDA") == "1":
            pytest.fail("CRRL_REQUIRE_CUDA=1, but torch can use no GPU here")
        pytest.skip("no GPU")
    return torch.device("cuda")


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    """Return each device in turn."""
    return torch.device("cpu") if request.param == "cpu" else request.getfixturevalue("cuda")
