"""A lock that allows only one process at a time to write to a run.

Training, import, search, export and report write several related files, so each of them holds the lock.
Commands that only read do not need the lock, and neither does `nas evaluate`, which only adds rows to the
archive. The operating system releases the lock when the process that holds it ends. The lock also works
between machines that share the run by a network file system, if the file system supports POSIX locks.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import logging
import os
import shlex
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from hw_profiles.atomic_write import naming
from nas.runs.files import LOCK
from nas.runs.records import now

_FAR = 1 << 30
"""Position of the locked byte on Windows, where a locked byte cannot be read."""
_log = logging.getLogger("nas")


Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
_held: dict[Path, int] = {}
"""For each run that is locked by this process: the thread that holds the lock."""


class RunInUseError(ValueError):
    """Another process or thread holds the lock of a run."""


@contextmanager
def locked(path: str | Path, *, create: bool = False) -> Iterator[None]:
    """Hold the lock of a run. The lock is reentrant within a thread.

    A run that this process cannot write to is not locked; the first write raises the error.

    Args:
        path: the run directory.
        create: whether to create a missing folder. It is removed again if nothing was written to it.

    Raises:
        RunInUseError: another process holds the lock; the message names it.
    """
    folder = Path(path)
    key, thread = folder.resolve(), threading.get_ident()
    if _held.get(key) == thread:
        yield
        return
    if key in _held:
        raise _in_use(folder, "another thread of this process")
    created = _create(folder) if create else []
    try:
        file = _acquire(folder)
        _held[key] = thread
        try:
            yield
        finally:
            del _held[key]
            if file:
                _release(folder / LOCK, file)
    finally:
        for each in created:
            with contextlib.suppress(OSError):  # not empty
                each.rmdir()


def writes_run(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorator for a function that must hold the lock of the run in its first argument, `trained`."""

    @functools.wraps(function)
    def holding(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        trained: Any = args[0] if args else kwargs["trained"]
        with locked(trained.run.path):
            return function(*args, **kwargs)

    return holding


def _create(folder: Path) -> list[Path]:
    """Create a folder; returns the folders that were missing, the innermost one first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    with contextlib.suppress(OSError):  # the first write to the folder will raise the error
        folder.mkdir(parents=True, exist_ok=True)
    return missing


def _acquire(folder: Path) -> FileIO | None:
    """The locked lock file, or None if it cannot be written.

    Raises:
        RunInUseError: another process holds the lock.
    """
    path = folder / LOCK
    while True:
        try:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        except OSError:
            return None
        try:
            _lock(file.fileno())
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                file.close()
                raise _in_use(folder, _holder(path)) from None
            _log.warning(
                "%s does not support locks (%s): run only one command at a time on it", folder, error.strerror
            )
        if _is_at(path, file):
            break
        file.close()  # the previous holder of the lock has removed this file
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "since": now(),
    }
    try:
        with naming(path):
            file.truncate(0)
            file.write(json.dumps(holder).encode())
    except OSError:
        _release(path, file)
        raise
    return file


def _is_at(path: Path, file: FileIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _release(path: Path, file: FileIO) -> None:
    if sys.platform == "win32":  # where an open file cannot be removed
        file.close()
    with contextlib.suppress(OSError):
        path.unlink()
    file.close()


def _holder(path: Path) -> str:
    """Description of the process that holds the lock.

    This process must not hold the lock, because it would lose the lock when the file is closed.
    """
    try:
        holder = json.loads(path.read_bytes())
        return f"process {holder['pid']} on {holder['host']}: `{holder['command']}`, since {holder['since']}"
    except (OSError, ValueError, KeyError):  # the process has just started or ended
        return "another process"


def _in_use(folder: Path, holder: str) -> RunInUseError:
    return RunInUseError(f"the run {folder} is in use by {holder}; wait until it ends, or stop it")
