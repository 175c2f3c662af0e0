"""What ptxas says of every CUDA kernel: registers, shared memory and spills on each architecture of the build.

    python bench/kernels.py [--source motion_diff.cu] [--markdown FILE]

Compiles each csrc/*.cu once more with the command that the build itself would run, so that the flags are those of the
built module. No GPU is needed. Exits with 1 where a kernel spills registers.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from crrl_fast.files import write_text

ROOT = Path(__file__).resolve().parents[1]

KERNEL = re.compile(
    r"Compiling entry function '(?P<symbol>\w+)' for 'sm_(?P<arch>\w+)'.*?"
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Kernel:
    """One kernel on one architecture."""

    source: str
    name: str
    arch: str
    registers: int
    shared: int
    """Bytes a block, without what a launch asks for dynamically."""
    spill_stores: int
    spill_loads: int


def main(
    source: Annotated[str | None, typer.Option(help="One file of csrc/ alone.")] = None,
    build: Annotated[Path | None, typer.Option(help="The build folder; default: the newest in build/.")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown")] = None,
) -> None:
    """Print the table."""
    commands = compile_commands(build or newest_build())
    if source is not None:
        commands = {path: command for path, command in commands.items() if path.name == source}
    if not commands:
        fail(f"the build has no CUDA source{f' {source}' if source else ''}; with nvcc on the path: make install")
    kernels = [kernel for path, command in commands.items() for kernel in examine(path, command)]
    if not kernels:
        fail("ptxas reported no kernel; its report may have a new form")
    table = markdown(kernels)
    typer.echo(table, nl=False)
    if markdown_file:
        write_text(markdown_file, table)
    spilling = [kernel for kernel in kernels if kernel.spill_stores or kernel.spill_loads]
    for kernel in spilling:
        typer.echo(f"{kernel.name} spills on sm_{kernel.arch}", err=True)
    raise typer.Exit(1 if spilling else 0)


def newest_build() -> Path:
    """Return the folder that setup.py configured last; a sanitized build has no CUDA sources."""
    files = [file for file in (ROOT / "build").glob("*/build.ninja") if not file.parent.name.endswith("-sanitize")]
    if not files:
        fail("there is no build to read the flags from; run: make install")
    return max(files, key=lambda file: file.stat().st_mtime).parent


def compile_commands(build: Path) -> dict[Path, tuple[str, Path]]:
    """Return the command that compiles each CUDA source, and the folder it runs in."""
    try:
        import ninja

        executable = str(Path(ninja.BIN_DIR) / "ninja")
    except ImportError:
        executable = "ninja"
    listed = subprocess.run([executable, "-C", build, "-t", "compdb"], capture_output=True, text=True, check=True)
    return {
        Path(entry["file"]): (entry["command"], Path(entry["directory"]))
        for entry in json.loads(listed.stdout[listed.stdout.index("[") :])
        if entry["file"].endswith(".cu") and " -c " in entry["command"]
    }


def examine(source: Path, command: tuple[str, Path]) -> Iterator[Kernel]:
    """Compile a source into nowhere and read what ptxas reports."""
    line, folder = command
    words = shlex.split(line)
    with tempfile.TemporaryDirectory() as temporary:
        for option in ("-o", "-MF"):
            words[words.index(option) + 1] = str(Path(temporary) / f"out{option}")
        ran = subprocess.run([*words, "-Xptxas", "-v"], cwd=folder, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        fail(f"{source.name} does not compile:\n{ran.stderr}")
    yield from read_report(source.name, ran.stdout + ran.stderr)


def read_report(source: str, report: str) -> Iterator[Kernel]:
    """Yield the kernels of a report of ``ptxas -v``."""
    found = list(KERNEL.finditer(report))
    for match, name in zip(found, short_names([match["symbol"] for match in found]), strict=True):
        shared = re.search(r"(\d+) bytes smem", match["rest"])
        yield Kernel(
            source=source,
            name=name,
            arch=match["arch"],
            registers=int(match["registers"]),
            shared=int(shared[1]) if shared else 0,
            spill_stores=int(match["stores"]),
            spill_loads=int(match["loads"]),
        )


def short_names(symbols: list[str]) -> list[str]:
    """Return names with template arguments, but without namespaces, return types and parameters."""
    tool = shutil.which("cu++filt") or shutil.which("c++filt")
    if tool is None:
        return symbols
    ran = subprocess.run([tool], input="\n".join(symbols), capture_output=True, text=True, check=True)
    return [shorten(name) for name in ran.stdout.splitlines()]


def shorten(name: str) -> str:
    """Shorten one demangled name.

    >>> shorten("void crrl::(anonymous namespace)::copy<crrl::(anonymous namespace)::Add, (int)4>(float const*, long)")
    'copy<Add, 4>'
    """
    name = name.removeprefix("void ")
    name = re.sub(r"(\w+|\(anonymous namespace\)|<unnamed>)::", "", name)
    name = re.sub(r"\((?:int|bool|unsigned int|long)\)", "", name)
    depth = 0
    for place, letter in enumerate(name):
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == "(" and depth == 0:
            return name[:place]
    return name


def markdown(kernels: list[Kernel]) -> str:
    """Return one row a kernel, with a value for each architecture where they differ."""
    archs = list(dict.fromkeys(kernel.arch for kernel in kernels))
    rows: dict[tuple[str, str], list[Kernel]] = {}
    for kernel in kernels:
        rows.setdefault((kernel.source, kernel.name), []).append(kernel)
    lines = [
        f"Values for {', '.join(f'sm_{arch}' for arch in archs)}, one where all are the same. Shared memory is that of "
        "the code; what a launch asks for at run time comes on top.",
        "",
        "| source | kernel | registers | shared memory, bytes | spill stores, bytes | spill loads, bytes |",
        "|---|---|---|---|---|---|",
    ]
    for (source, name), of_archs in sorted(rows.items()):
        cells = [
            values([getattr(kernel, field) for kernel in of_archs])
            for field in ("registers", "shared", "spill_stores", "spill_loads")
        ]
        lines.append(f"| {source} | `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def values(numbers: list[int]) -> str:
    """Join the numbers, or give the one that all are."""
    return str(numbers[0]) if len(set(numbers)) == 1 else ", ".join(map(str, numbers))


def fail(message: str) -> NoReturn:
    """End with a message on stderr."""
    typer.echo(f"kernels: {message}", err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    typer.run(main)
