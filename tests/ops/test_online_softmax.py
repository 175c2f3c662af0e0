"""The softmax of a tile, as each instruction set that it is compiled for computes it."""

from pathlib import Path

from tests.ops.isas import each_isa, run_on_isa


@each_isa
def test_equals_the_definition(run_cpp, isa):
    run_on_isa(run_cpp, Path(__file__).with_name("online_softmax.cpp"), isa)
