"""`doctor`."""

from __future__ import annotations

import typer

from crrl_fast.cli.common import console


def doctor() -> None:
    """Say what was built, what runs, and how to mend what does not fit."""
    from crrl_fast import doctor as checks

    report = checks.examine()
    console.print(checks.render(report))
    if report.problems:
        raise typer.Exit(1)
