"""The command line: parse, call, print. One file a command or group; this one is the list of them."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from crrl_fast.cli.bench import bench_app
from crrl_fast.cli.common import INTERRUPTED, USER_ERROR, fail
from crrl_fast.cli.data import inspect_data, prepare
from crrl_fast.cli.doctor import doctor
from crrl_fast.cli.embed import embed
from crrl_fast.cli.evaluate import eval_app
from crrl_fast.cli.evaluate_all import evaluate_all
from crrl_fast.cli.export import export
from crrl_fast.cli.finetune import finetune, semi, transfer
from crrl_fast.cli.pretrain import pretrain
from crrl_fast.cli.report import report
from crrl_fast.errors import CrrlError
from crrl_fast.memory import OUT_OF_MEMORY, is_out_of_memory

__all__ = ["app", "main"]

app = typer.Typer(
    help="Fast, practical CRRL: self-supervised pretraining of skeleton-action encoders.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(prepare)
app.command("inspect")(inspect_data)
app.command()(pretrain)
app.add_typer(eval_app, name="eval")
eval_app.command()(finetune)
eval_app.command()(semi)
eval_app.command()(transfer)
eval_app.command("all")(evaluate_all)
app.command()(embed)
app.command()(report)
app.command()(export)
app.add_typer(bench_app, name="bench")
app.command()(doctor)


def main() -> NoReturn:
    """Run the command line; a user's mistake ends in one line on stderr and exit code 2."""
    try:
        code = app(prog_name="crrl-fast", standalone_mode=False)
    except CrrlError as error:
        fail(str(error), USER_ERROR)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)
    except Exception as error:
        if is_out_of_memory(error):
            fail(f"{OUT_OF_MEMORY} ({(str(error) or 'no more is known').splitlines()[0]})", USER_ERROR)
        # Usage errors are click's, which Typer vendors or not depending on its version: known by their method.
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message().rstrip(".")
        if not message:  # a command group without a command: its help has been printed
            sys.exit(USER_ERROR)
        context = getattr(error, "ctx", None)
        fail(f"{message}; see `{context.command_path} --help`" if context else message, USER_ERROR)
    sys.exit(code if isinstance(code, int) else 0)
