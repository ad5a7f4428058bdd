"""Commands for a shell on a device, whose own output is found among what the shell itself prints.

A shell may print a banner before a command and a farewell after it, on both streams, and old versions of adb
lose the exit code of a command. So a line is printed before and after each command's own output, the second
one with the exit code.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable, Iterable, Iterator

from hw_profiles.connections.process import ProcessError, Progress, follow, output

BEGIN, END = "nas-begin", "nas-end"
Wrap = Callable[[str], list[str]]
"""The command here that runs a shell command on the device."""


class Marked:
    """A shell command between two lines that no banner has.

    Args:
        command: for a POSIX shell.
    """

    exit_code: int | None = None
    """Of the command, as far as its output was read; None where it did not end."""

    def __init__(self, command: str) -> None:
        key = secrets.token_hex(8)
        self._begin, self._end = f"{BEGIN}-{key}", f"{END}-{key}-"
        # The parts of a line are given one by one: a shell that prints its commands does not print the line.
        begin = f"printf '\\n%s-%s\\n' {BEGIN} {key}"
        end = f"printf '\\n%s-%s-%s\\n' {END} {key} $code"
        script = f"{begin}; {begin} >&2; ({command}); code=$?; {end}; {end} >&2; exit $code"
        self.command = f"sh -c {shlex.quote(script)}"

    def own(self, text: str) -> str:
        """What the command itself wrote to a stream; all of the text where the command did not start."""
        lines = text.replace("\r\n", "\n").split("\n")
        return "\n".join(self.own_lines(lines)) if self._begin in lines else text

    def own_lines(self, lines: Iterable[str]) -> Iterator[str]:
        """The lines between the marks; all lines are read."""
        started = False
        for line in lines:
            text = line.rstrip("\r\n")
            if text.startswith(self._end):
                started, self.exit_code = False, int(text[len(self._end) :])
            if started:
                yield line
            started = started or text == self._begin

    def refuse_failure(self, command: list[str]) -> None:
        """Refuse an exit code that the connection has lost.

        Raises:
            ProcessError: the command failed or did not end.
        """
        if self.exit_code != 0:
            raise ProcessError(command, self.exit_code or 1, "")


def output_there(wrap: Wrap, there: str, *, stdin: bytes = b"", timeout_seconds: float | None = None) -> str:
    """What a shell command on a device writes to standard output.

    Raises:
        ValueError: there is no program here that reaches the device.
        ProcessError: it failed, or did not end in time.
    """
    marked = Marked(there)
    command = wrap(marked.command)
    try:
        text = output(command, stdin=stdin, timeout_seconds=timeout_seconds)
    except ProcessError as error:
        raise ProcessError(command, error.exit_code, marked.own(error.errors)) from None
    own = marked.own(text)
    marked.refuse_failure(command)
    return own


def follow_there(wrap: Wrap, there: str, progress: Progress) -> None:
    """Wait for a runner on a device, see `hw_profiles.connections.process.follow`.

    Raises:
        ValueError: there is no program here that reaches the device.
        ProcessError: it failed.
    """
    marked = Marked(there)
    command = wrap(marked.command)
    try:
        follow(command, progress, marked.own_lines)
    except ProcessError as error:
        raise ProcessError(command, error.exit_code, marked.own(error.errors)) from None
    marked.refuse_failure(command)
