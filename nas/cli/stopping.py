"""Exit codes of commands that a signal stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from nas.stopping import Stopped


@contextmanager
def signal_exit_code() -> Iterator[None]:
    """Ends the command with the exit code of the signal; typer would report each as Ctrl-C."""
    try:
        yield
    except Stopped as stopped:
        raise typer.Exit(stopped.exit_code) from None
