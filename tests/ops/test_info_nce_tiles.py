"""How the GPU shares out queue_info_nce, checked on the CPU."""

from pathlib import Path


def test_every_block_tile_and_fragment(run_cpp):
    run_cpp(Path(__file__).with_name("info_nce_tiles.cpp"))
