"""The native parser of raw NTU files under the sanitizers."""

import os
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
SANITIZERS = "-fsanitize=address,undefined"


def test_no_text_makes_it_read_astray(tmp_path):
    program = tmp_path / "walk"
    subprocess.run(
        [
            os.environ.get("CXX", "g++"),
            *("-std=c++20", "-O1", "-g", "-Wall", "-Wextra", "-Werror", SANITIZERS, "-fno-sanitize-recover=all"),
            f"-I{CSRC}",
            str(HERE / "ntu_skeleton_walk.cpp"),
            str(CSRC / "ntu_skeleton.cpp"),
            *("-o", str(program)),
        ],
        check=True,
    )
    # Leaks do not matter here, and looking for them fails where processes may not trace each other.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    ran = subprocess.run([program], capture_output=True, text=True, check=False, env=environment)
    assert (ran.returncode, ran.stdout) == (0, "ok\n"), ran.stdout + ran.stderr
