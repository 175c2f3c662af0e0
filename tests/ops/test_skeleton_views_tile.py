"""The GPU threads' code of skeleton_views, run on the CPU."""

from pathlib import Path


def test_every_tile_of_a_launch(run_cpp):
    run_cpp(Path(__file__).with_name("skeleton_views_tile.cpp"))
