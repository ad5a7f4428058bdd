"""Exit codes of commands that a signal stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from nas.stopping import Stopped


@contextmanager
def signal_exit_code() -> Iterator[None]:
    """End a stopped command with the exit code of its signal; typer would use the code of Ctrl-C for all."""
    try:
        yield
    except Stopped as stopped:
        raise typer.Exit(stopped.exit_code) from None
