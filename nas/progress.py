"""Progress of long operations: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

Progress = Callable[[str, int, int], None]
"""Called with a description, the number of completed units of work, and the total number of units."""

_SECONDS_BETWEEN_LINES = 10.0


def silent(description: str, done: int, total: int) -> None:
    """Show nothing."""


@contextmanager
def shown(every: int | None = None) -> Iterator[Progress]:
    """Progress on standard error: a bar on a terminal, otherwise plain lines with the time left.

    Args:
        every: units of work between two lines; None: a line every 10 seconds.
    """
    if not sys.stderr.isatty():
        yield _Lines(every)
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(description: str, done: int, total: int) -> None:
            bar.update(task, description=description, completed=done, total=total)

        yield show


class _Lines:
    """Plain lines: for the first and the last unit of an operation, and at intervals in between."""

    def __init__(self, every: int | None) -> None:
        self.every = every
        self.total = -1
        self.started = self.last = 0.0
        self.first_done = self.last_done = -1

    def __call__(self, description: str, done: int, total: int) -> None:
        now = time.monotonic()
        if total != self.total or done < self.last_done:  # another operation
            self.total, self.first_done, self.started, self.last = total, done, now, 0.0
        self.last_done = done
        due = done % self.every == 0 if self.every else now - self.last >= _SECONDS_BETWEEN_LINES
        if not due and done not in (self.first_done, total):
            return
        self.last = now
        sys.stderr.write(f"{description}: {done}/{total}{self._time_left(now, done, total)}\n")
        sys.stderr.flush()

    def _time_left(self, now: float, done: int, total: int) -> str:
        """The estimated time left; a resumed operation starts at `first_done`."""
        if not self.first_done < done < total:
            return ""
        return f", {(now - self.started) / (done - self.first_done) * (total - done):.0f} s left"
