"""What README shows runs as it stands."""

import re
from pathlib import Path

import pytest

from tests.export.conftest import make_run

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_readme_has_examples():
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("block", BLOCKS)
def test_python_blocks_run(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if '"runs/ucla"' in block:
        make_run(tmp_path / "runs/ucla", hidden=256)
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_commands_exist():
    import typer.main

    from crrl_fast.cli import app

    def names(group, prefix=()):
        for name, command in group.commands.items():
            yield (*prefix, name)
            yield from names(command, (*prefix, name)) if hasattr(command, "commands") else ()

    known = {" ".join(name) for name in names(typer.main.get_command(app))}
    shown = re.findall(r"crrl-fast (eval \w+|bench \w+|prepare|inspect|pretrain|embed|export|report|doctor)\b", README)
    assert {"prepare", "inspect", "pretrain", "embed", "export", "eval linear", "eval knn"} <= set(shown)
    assert set(shown) <= known


def test_every_protocol_is_in_the_table_of_protocols():
    import typer.main

    from crrl_fast.cli import app

    table = re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE)
    assert set(typer.main.get_command(app).commands["eval"].commands) <= set(table)


def test_every_reader_is_in_the_table_of_layouts():
    from crrl_fast.data.readers import READERS

    table = re.findall(r"^\| `([\w-]+)` \|", README, flags=re.MULTILINE)
    assert set(READERS) <= set(table)


def test_linked_files_exist():
    root = Path(__file__).parents[1]
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if not link.startswith("http")]
    assert links
    for link in links:
        assert (root / link).exists(), link
