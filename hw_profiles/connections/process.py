"""Processes on this machine that measure or reach a device."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence

Progress = Callable[[int, int], None]
"""Called with the number of finished trials and their total number."""


class ProcessError(ValueError):
    """A process that failed; the message is its last line.

    Args:
        command: the command.
        exit_code: its exit code.
        errors: everything that the process wrote to standard error.
    """

    def __init__(self, command: Sequence[str], exit_code: int, errors: str) -> None:
        lines = errors.strip().splitlines()
        super().__init__(
            lines[-1] if lines else f"{command[0]} ended without a message, exit code {exit_code}"
        )
        self.exit_code, self.errors = exit_code, errors


def follow(
    command: Sequence[str],
    progress: Progress,
    own_lines: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> None:
    """Start a runner and wait for its end. It prints a line `DONE TOTAL` after each trial.

    Args:
        command: the command.
        progress: called after each trial.
        own_lines: selects the lines of the runner from all lines of the output.

    Raises:
        ValueError: the program does not exist.
        ProcessError: the runner failed; finished trials are saved on the device.
    """
    _check_program(command)
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in own_lines(process.stdout):
                words = line.split()
                if len(words) == 2 and all(map(str.isdecimal, words)):  # ignore messages of the interpreter
                    progress(int(words[0]), int(words[1]))
        except BaseException:
            process.terminate()
            raise
        if process.wait():
            errors.seek(0)
            raise ProcessError(command, process.returncode, errors.read())


def output(command: Sequence[str], *, stdin: bytes = b"", timeout_seconds: float | None = None) -> str:
    """The standard output of a command.

    Raises:
        ValueError: the program does not exist.
        ProcessError: the command failed, or did not end in time.
    """
    _check_program(command)
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout_seconds, check=False)
    except subprocess.TimeoutExpired:
        raise ProcessError(command, 124, f"{command[0]} did not finish within {timeout_seconds} s") from None
    if done.returncode:
        raise ProcessError(command, done.returncode, done.stderr.decode(errors="replace"))
    return done.stdout.decode(errors="replace")


def _check_program(command: Sequence[str]) -> None:
    if shutil.which(command[0]) is None:
        raise ValueError(f"cannot find the program {command[0]!r} on this machine")
