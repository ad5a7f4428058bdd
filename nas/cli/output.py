"""Output of commands: tables or JSON."""

from __future__ import annotations

import json
import math
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

BROKEN_PIPE = 141
"""Exit code if the process that reads the output has ended: 128 plus the number of SIGPIPE."""


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries, for `show` and `print_json`."""
    return [{str(column): value for column, value in row.items()} for row in table.to_dict("records")]


def show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows as a table, or as JSON."""
    if as_json:
        print_json(rows)
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = 200  # a log does not wrap
    table = Table()
    for name in rows[0] if rows else ():
        table.add_column(name, overflow="fold")  # otherwise the end of a long path would be missing
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    with console.capture() as captured:
        console.print(table)
    write(captured.get())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4g}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def print_json(content: Any) -> None:
    """Print a value as one line of JSON; NaN and infinity become null."""
    line(json.dumps(_finite(content), allow_nan=False))


def _finite(content: Any) -> Any:
    """The content with None instead of NaN and infinity."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def line(text: str) -> None:
    """Print one line."""
    write(text + "\n")


def write(text: str) -> None:
    """Write to standard output and flush it.

    Raises:
        typer.Exit: the process that reads the output has ended, such as `head` after its lines.
        OSError: writing failed, for example because the disk is full.
    """
    import typer

    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes again at exit
        raise typer.Exit(BROKEN_PIPE) from None


def open_standard_streams() -> None:
    """Connect standard streams that are closed, as by `>&-`, to the null device.

    Otherwise the next file that is opened would get their descriptors.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
