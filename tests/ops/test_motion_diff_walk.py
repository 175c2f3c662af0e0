"""The GPU thread's code, run on the CPU."""

from pathlib import Path


def test_every_walk_of_a_launch(run_cpp):
    run_cpp(Path(__file__).with_name("motion_diff_walk.cpp"))
