"""The GRU's cell, as each instruction set that it is compiled for computes it, and the order of ragged rows."""

from pathlib import Path

from tests.ops.isas import each_isa, run_on_isa


@each_isa
def test_cells_equal_the_definition(run_cpp, isa):
    run_on_isa(run_cpp, Path(__file__).with_name("gru_cells.cpp"), isa)


def test_rows_hold_every_valid_frame_once(run_cpp):
    run_cpp(Path(__file__).with_name("gru_rows.cpp"))
