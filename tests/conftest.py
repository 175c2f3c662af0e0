"""Fixtures shared by all tests."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from crrl_fast import cli
from crrl_fast.cli.common import console
from crrl_fast.data.info import Split
from crrl_fast.data.store import Store
from tests import property_based  # noqa: F401 - before a profile of its can be asked for

REAL_DATA = Path(os.environ.get("CRRL_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture
def real_data():
    """Return a function from a name to the path of real data; the test skips, or fails where data is required."""

    def find(name: str) -> Path:
        path = REAL_DATA / name
        if not path.exists():
            message = f"real data {path} is not here"
            if os.environ.get("CRRL_REQUIRE_DATA") == "1":
                pytest.fail(message)
            pytest.skip(message)
        return path

    return find


def random_walks(count: int, seed: int = 0, joints: int = 20, longest: int = 12) -> list[np.ndarray]:
    """Return ``count`` clips (T, joints, 3) of 1 to ``longest`` frames; the first has one, the second ``longest``."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, count)
    lengths[:2] = 1, longest
    return [rng.normal(size=(t, joints, 3)).cumsum(axis=0).astype(np.float32) * 0.1 for t in lengths]


@pytest.fixture
def tiny_store() -> Store:
    """Return 24 clips on the 20-joint layout: 3 classes, cameras 1 to 3, cross-view split 16 / 8."""
    count = 24
    return Store.from_arrays(
        random_walks(count),
        labels=[i % 3 for i in range(count)],
        camera=[i // 8 + 1 for i in range(count)],
        layout="kinect20",
        dataset="tiny",
        splits={"xview": Split("camera", (1, 2))},
    )


@pytest.fixture
def tiny_path(tiny_store: Store, tmp_path: Path) -> Path:
    """Return the path of ``tiny_store`` on disk."""
    path = tmp_path / "tiny.safetensors"
    tiny_store.save(path)
    return path


@pytest.fixture
def crrl(monkeypatch, tmp_path, capsys):
    """Return a function that runs the command line in ``tmp_path`` and returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CRRL_DATA", str(tmp_path / "stores"))
    monkeypatch.setattr(console, "_width", 200)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["crrl-fast", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        captured = capsys.readouterr()
        return exit_.value.code, captured.out, captured.err

    return run


def one_line_error(result, *parts):
    """Expect exit code 2 and one line on stderr that holds all ``parts``."""
    code, _, err = result
    assert code == 2, result
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    for part in parts:
        assert part in err


@pytest.fixture
def run_cpp(tmp_path: Path):
    """Return a function that compiles a C++ file against csrc/ under sanitizers and expects it to print ok."""

    def run(source: Path, *flags: str) -> None:
        program = tmp_path / source.stem
        warnings = ("-Wall", "-Wextra", "-Werror")
        sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
        include = f"-I{Path(__file__).parents[1] / 'csrc'}"
        command = [os.environ.get("CXX", "g++"), "-std=c++20", "-O1", "-g", *warnings, *sanitizers, include]
        subprocess.run([*command, *flags, str(source), "-o", str(program)], check=True)
        # Leaks do not matter here, and looking for them fails where processes may not trace each other.
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
        ran = subprocess.run([program], capture_output=True, text=True, check=False, env=environment)
        assert (ran.returncode, ran.stdout) == (0, "ok\n"), ran.stdout + ran.stderr

    return run


@pytest.fixture
def cpu() -> torch.device:
    """Return the CPU device."""
    return torch.device("cpu")


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
