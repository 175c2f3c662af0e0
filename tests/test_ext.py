import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from crrl_fast import _ext

HIDE = "import sys; sys.modules['crrl_fast._C'] = None"
USE_OP = """
import warnings, torch
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from crrl_fast import _ext, reference
    from crrl_fast.ops import motion_diff
    x, lengths = torch.randn(2, 5, 3), torch.tensor([5, 2])
    for _ in range(3):
        assert torch.equal(motion_diff(x, lengths), reference.motion_diff(x, lengths))
ours = [w for w in caught if issubclass(w.category, _ext.ExtensionWarning)]
assert not _ext.available and _ext.build_info() is None
print(len(ours), ours[0].message)
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "CRRL_EXT"}
    return subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True, check=False
    )


def test_without_the_module_ops_warn_once_and_run_the_reference():
    ran = run(HIDE + USE_OP)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("1 the compiled module crrl_fast._C cannot be imported")
    assert _ext.REBUILD in ran.stdout


def test_required_module_that_is_missing_is_an_error():
    ran = run(HIDE + "\nimport crrl_fast.ops", CRRL_EXT="required")
    assert ran.returncode != 0
    assert "ImportError: CRRL_EXT=required, but the compiled module crrl_fast._C cannot be imported" in ran.stderr
    assert _ext.REBUILD in ran.stderr


def test_module_without_cuda_beside_a_gpu_is_reported(monkeypatch):
    info = _ext.BuildInfo("0", "2.13.0", None, (), "GNU 12", ("x86-64",), True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    message = _ext._shortfall(None, info)
    assert message is not None
    assert "built without CUDA" in message
    assert "CRRL_CUDA=on" in message
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _ext._shortfall(None, info) is None


def test_build_info_is_what_was_built():
    info = _ext.build_info()
    if info is None:
        pytest.skip("the compiled module is not built")
    assert info.torch == torch.__version__
    assert info.cxx11_abi == torch.compiled_with_cxx11_abi()
    assert (info.cuda is None) == (info.cuda_architectures == ())
    assert ("cuda" in _ext.device_types) == (info.cuda is not None)


def test_one_openmp_library_in_the_process():
    # Two would each start their own threads and fight over the cores.
    code = "import crrl_fast.ops; print(*{l.split()[-1] for l in open('/proc/self/maps')}, sep='\\n')"
    if not sys.platform.startswith("linux") or not _ext.available:
        pytest.skip("needs /proc and the compiled module")
    names = ("libgomp", "libiomp", "libomp")
    runtimes = {path for path in run(code).stdout.split() if Path(path).name.startswith(names)}
    assert len(runtimes) == 1, runtimes
