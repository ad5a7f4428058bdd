"""The command `nas`: its commands in the order of the workflow, and the handling of errors.

Each command reads its options and calls one function of the package. Heavy packages are imported inside
the commands, so that `nas --help` is fast.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from typing import Annotated

import typer

from nas.cli.demo import demo
from nas.cli.describe import describe, spaces
from nas.cli.devices import benchmark, profile
from nas.cli.evaluate import evaluate
from nas.cli.export import export
from nas.cli.finetune import finetune
from nas.cli.import_command import app as import_commands
from nas.cli.no_effect import Command
from nas.cli.open_run import locks_run
from nas.cli.output import BROKEN_PIPE, open_standard_streams
from nas.cli.pick import pick
from nas.cli.recipe_help import ExplainsRecipe
from nas.cli.report import report
from nas.cli.search import search
from nas.cli.train import train
from nas.lack_of_memory import is_lack_of_memory

STOPPED = 128
"""Commands that were stopped by a signal have larger exit codes: 128 plus the number of the signal."""

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train one elastic supernet; for every device, search the best subnets under its measured latency, "
    "export them to ONNX and benchmark them.",
)


@app.callback()
def _common(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; allowed at any position.")
    ] = False,
) -> None:
    """Declare the option `--debug` for `--help`; `main` handles the option before typer reads the
    arguments."""


app.command(cls=Command)(spaces)
app.command(cls=Command)(describe)
app.command(cls=ExplainsRecipe)(train)
app.command(cls=Command)(finetune)
app.command(cls=Command)(evaluate)
app.command(cls=Command)(profile)
app.command(cls=Command)(locks_run(search))
app.command(cls=Command)(pick)
app.command(cls=Command)(locks_run(export))
app.command(cls=Command)(benchmark)
app.command(cls=Command)(locks_run(report))
app.command(cls=Command)(demo)
app.add_typer(import_commands, name="import")


def main() -> None:
    """Entry point. An error that a user can cause gives one line on standard error and exit code 2."""
    open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # terminals may lack some characters
    logging.basicConfig(format="%(levelname)s: %(message)s")
    logging.getLogger("nas").setLevel(logging.INFO)
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        _check_current_folder()
        code = app(args=arguments or ["--help"], prog_name="nas", standalone_mode=False)
    except Exception as error:
        reason = _reason(error)
        if reason is None or "--debug" in sys.argv:
            raise
        sys.stderr.write(f"error: {reason}\n")
        sys.exit(2)
    if isinstance(code, int) and code > STOPPED and code != BROKEN_PIPE:
        sys.stderr.write(
            "stopped; finished work is saved: run the same command again to continue (train, finetune and "
            "demo need --resume)\n"
        )
    sys.exit(code)


def _check_current_folder() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise ValueError("the current folder no longer exists; change to another folder") from None


def _reason(error: Exception) -> str | None:
    """The message for an error that a user can cause or fix; None for errors of the toolkit itself."""
    if isinstance(error, typer.TyperException):
        return error.format_message()
    text = " ".join(str(error).split())
    if is_lack_of_memory(error):
        return f"not enough memory: {text}" if text else "not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return text if isinstance(error, ValueError | OSError) else None
