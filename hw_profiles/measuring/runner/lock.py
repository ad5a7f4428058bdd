"""A lock that one process at a time can hold."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from hw_profiles.measuring.runner.errors import RunnerError


@contextmanager
def locked(path: str, wait_seconds: float = 0) -> Iterator[None]:
    """Hold a lock file. The system releases it when the process ends, even if it is killed.

    Args:
        path: the file.
        wait_seconds: how long to wait for another process to release it.

    Raises:
        RunnerError: another process holds it and does not release it in time.
    """
    end = time.monotonic() + wait_seconds
    with open(path, "w", encoding="utf-8") as file:
        while not _lock(file):
            if time.monotonic() >= end:
                folder = os.path.dirname(os.path.abspath(path))
                raise RunnerError(f"another runner is measuring in {folder}; wait for its end")
            time.sleep(0.2)
        yield


def _lock(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # not POSIX: there are no locks
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
