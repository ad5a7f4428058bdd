"""Commands for a shell on a device, with their output separated from the messages of the shell.

A shell may print banners before and after the output of a command, on both streams, and old versions of adb
lose the exit code. Therefore a marker line is printed before and after the output. The second marker contains
the exit code.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable, Iterable, Iterator

from hw_profiles.connections.process import ProcessError, Progress, follow, output

BEGIN, END = "nas-begin", "nas-end"
Wrap = Callable[[str], list[str]]
"""Returns the local command that runs a shell command on the device."""


class Marked:
    """A shell command whose output is between two unique marker lines.

    Args:
        command: a command for a POSIX shell.
    """

    exit_code: int | None = None
    """The exit code of the command; None until its end marker was read."""

    def __init__(self, command: str) -> None:
        key = secrets.token_hex(8)
        self._begin, self._end = f"{BEGIN}-{key}", f"{END}-{key}-"
        # The parts of a marker are separate arguments: a shell that echoes its commands does not print the
        # marker.
        begin = f"printf '\\n%s-%s\\n' {BEGIN} {key}"
        end = f"printf '\\n%s-%s-%s\\n' {END} {key} $code"
        script = f"{begin}; {begin} >&2; ({command}); code=$?; {end}; {end} >&2; exit $code"
        self.command = f"sh -c {shlex.quote(script)}"

    def own(self, text: str) -> str:
        """The output of the command itself; the whole text if the command did not start."""
        lines = text.replace("\r\n", "\n").split("\n")
        return "\n".join(self.own_lines(lines)) if self._begin in lines else text

    def own_lines(self, lines: Iterable[str]) -> Iterator[str]:
        """The lines between the markers. All lines are read."""
        started = False
        for line in lines:
            text = line.rstrip("\r\n")
            if text.startswith(self._end):
                started, self.exit_code = False, int(text[len(self._end) :])
            if started:
                yield line
            started = started or text == self._begin

    def check_exit_code(self, command: list[str]) -> None:
        """Check the exit code in the end marker, for connections that lose the exit code.

        Raises:
            ProcessError: the command failed or did not end.
        """
        if self.exit_code != 0:
            raise ProcessError(command, self.exit_code or 1, "")


def remote_output(
    wrap: Wrap, remote_command: str, *, stdin: bytes = b"", timeout_seconds: float | None = None
) -> str:
    """The standard output of a shell command on a device.

    Raises:
        ValueError: the program that reaches the device does not exist on this machine.
        ProcessError: the command failed, or did not end in time.
    """
    marked = Marked(remote_command)
    command = wrap(marked.command)
    try:
        text = output(command, stdin=stdin, timeout_seconds=timeout_seconds)
    except ProcessError as error:
        raise ProcessError(command, error.exit_code, marked.own(error.errors)) from None
    own = marked.own(text)
    marked.check_exit_code(command)
    return own


def remote_follow(wrap: Wrap, remote_command: str, progress: Progress) -> None:
    """Start a runner on a device and wait for its end, see `hw_profiles.connections.process.follow`.

    Raises:
        ValueError: the program that reaches the device does not exist on this machine.
        ProcessError: the runner failed.
    """
    marked = Marked(remote_command)
    command = wrap(marked.command)
    try:
        follow(command, progress, marked.own_lines)
    except ProcessError as error:
        raise ProcessError(command, error.exit_code, marked.own(error.errors)) from None
    marked.check_exit_code(command)
