"""How the GPU shares out gru_scan, checked on the CPU."""

from pathlib import Path


def test_every_block_weight_and_number_sent(run_cpp):
    run_cpp(Path(__file__).with_name("gru_scan_plan.cpp"))
