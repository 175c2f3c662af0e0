import io

from rich.console import Console

from crrl_fast.benchmark import markdown, render


def in_terminal(record, width=140) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(render(record))
    return console.export_text()


def test_terminal_shows_one_table_with_a_section_for_each_case(record):
    text = in_terminal(record)
    assert text.count("┏") == 1
    assert text.count("├") == len(record.cases) - 1
    # A name runs down its section's first column; where it is longer than the section, the section grows.
    assert [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")] == [
        *("motion_diff", "forward (128, 64, 150)", "float32 ragged"),
        *("motion_diff", "forward (256, 300, 150)", "float32"),
        *("skeleton_views", "strong"),
    ]


def test_markdown_is_one_table_with_a_row_above_each_case(record):
    text = markdown(record)
    assert sum(line.startswith("| --- |") for line in text.splitlines()) == 1
    assert "| **motion_diff forward (128, 64, 150) float32 ragged** |  |  |  |  |" in text
    assert "| PyTorch eager | 12.5 ms (11.2 to 15) | 12.5x (11.2 to 15) | 3.0e-08 | 3 MiB |" in text
    assert "| copy of the bytes | 800 us (720 to 960) | 0.8x (0.72 to 0.96) |  | 3 MiB |" in text


def test_both_say_under_which_circumstances_and_what_the_columns_mean(record):
    for text in (in_terminal(record), markdown(record)):
        assert "cpu: Some CPU, 2 threads, 12 to 30 rounds; crrl_fast 0.1.0, torch 2.13.0" in text
        assert "peak of torch's allocations above those before the call, result included" in text
        assert text.count("PyTorch eager: converted beforehand") == 1


def test_the_time_of_each_view_is_shown(record):
    assert "1 ms (0.9 to 1.2), 10 us a view" in markdown(record)
    assert "a call" not in markdown(record).split("- error")[0]
