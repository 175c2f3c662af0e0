"""The examples run as a user runs them: in an empty folder, each in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from crrl_fast.run import RunFolder

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


@pytest.fixture
def run_example(tmp_path):
    """Return a function that runs an example and returns what it prints."""

    def run(name: str, *arguments: object) -> str:
        environment = {key: value for key, value in os.environ.items() if key != "CRRL_DATA"}
        result = subprocess.run(
            [sys.executable, ROOT / "examples" / name, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(ROOT)},
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


def test_pretrain(run_example, tmp_path):
    printed = run_example("pretrain.py", "--epochs", 1, "--fusion", "joint")
    scores = {match[0]: float(match[1]) for match in re.findall(r"^(\w+, \w+): ([\d.]+) %$", printed, re.MULTILINE)}
    assert list(scores) == ["random, linear", "random, knn", "joint, linear", "joint, knn"]
    assert all(100 / 16 < score < 100 for score in scores.values())  # better than chance among 16 classes
    (folder,) = (tmp_path / "runs").iterdir()
    assert RunFolder.open(folder).default_encoder() == "joint"
    assert {path.name for path in (folder / "eval").iterdir()} == {
        f"{protocol}-{encoder}.json" for protocol in ("linear", "knn") for encoder in ("random", "joint")
    }
    assert "features of 5 clips (5, 512)" in printed


def test_moco_ops(run_example):
    printed = run_example("moco_ops.py", "--epochs", 4, "--device", "cpu")
    epochs = [(float(loss), float(found)) for loss, found in re.findall(r"loss ([\d.]+), .* ([\d.]+)%", printed)]
    assert len(epochs) == 4
    assert epochs[3][0] < epochs[1][0]  # from the second epoch on the queue is full
    assert epochs[3][1] > 1.5 * epochs[1][1]
    before, after = (float(score) for score in re.findall(r"trained: 1-nn ([\d.]+)%", printed))
    assert after > before


def test_embed_mediapipe(run_example, tmp_path):
    printed = run_example("embed_mediapipe.py", "--epochs", 4)
    answers = re.findall(r"^new video, ([\w ]+): most like video (\d+), ([\w ]+)$", printed, re.MULTILINE)
    assert len(answers) == 20
    right = sum(action == nearest for action, _, nearest in answers)
    assert right >= 12  # chance: 4
    assert f"{right} of 20 right" in printed
    (folder,) = (tmp_path / "runs").iterdir()
    frames = RunFolder.open(folder).config.frames
    assert (frames.layout.name, frames.bodies) == ("mediapipe33", 1)


def test_landmarks_become_clips_of_one_rate_without_gaps():
    import importlib.util

    import numpy as np

    spec = importlib.util.spec_from_file_location("embed_mediapipe", ROOT / "examples" / "embed_mediapipe.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    landmarks = np.zeros((11, 33, 4))
    landmarks[..., 0] = np.arange(11)[:, None]  # moves right by a unit a frame
    landmarks[..., 1], landmarks[..., 2], landmarks[..., 3] = 2, 3, 1
    landmarks[4, 5] = [100, 100, 100, 0.1]  # hidden
    landmarks[7, :, :3], landmarks[7, :, 3] = np.nan, 0  # nobody found
    clip = example.to_clip(landmarks, fps=60)
    assert clip.shape == (6, 33, 3)
    np.testing.assert_allclose(clip[:, :, 0], np.repeat(np.arange(0, 11, 2)[:, None], 33, axis=1))
    np.testing.assert_allclose(clip[..., 1:], np.broadcast_to([-2, -3], (6, 33, 2)))
    np.testing.assert_allclose(example.to_clip(landmarks[..., :3], fps=30)[[0, 10], 0], [[0, -2, -3], [10, -2, -3]])
    assert example.to_clip(landmarks[:1], fps=30).shape == (1, 33, 3)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_listed_and_says_how_it_is_run(name):
    assert f"]({name})" in (ROOT / "examples" / "README.md").read_text()
    assert f"    python examples/{name} --" in (ROOT / "examples" / name).read_text()
