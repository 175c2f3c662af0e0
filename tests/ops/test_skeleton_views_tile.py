"""The GPU threads' code of skeleton_views, run on the CPU."""

import os
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
SANITIZERS = "-fsanitize=address,undefined"


def test_every_tile_of_a_launch(tmp_path):
    program = tmp_path / "tiles"
    subprocess.run(
        [
            os.environ.get("CXX", "g++"),
            *("-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-Werror", SANITIZERS, "-fno-sanitize-recover=all"),
            f"-I{HERE.parents[1] / 'csrc'}",
            str(HERE / "skeleton_views_tile.cpp"),
            *("-o", str(program)),
        ],
        check=True,
    )
    # Leaks do not matter here, and looking for them fails where processes may not trace each other.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    ran = subprocess.run([program], capture_output=True, text=True, check=False, env=environment)
    assert (ran.returncode, ran.stdout) == (0, "ok\n"), ran.stdout + ran.stderr
