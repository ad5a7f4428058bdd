"""Pins the calling thread to CPU cores."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from hw_profiles.measuring.runner.errors import RunnerError

CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()  # that this process may use


def cores_changed() -> RunnerError:
    """The error for cores that went offline or were taken from this process."""
    return RunnerError(
        f"this process can no longer use all of the CPU cores {sorted(CORES)} that it had when it started; "
        f"finished trials are saved: start it again"
    )


def pin_thread(cores: set[int]) -> None:
    """Pin the calling thread to some cores.

    Raises:
        RunnerError: the cores went offline or were taken from this process.
    """
    if not cores:
        return
    try:
        os.sched_setaffinity(0, cores)
    except OSError:
        raise cores_changed() from None


@contextmanager
def pinned_without_garbage_collection(cores: set[int]) -> Iterator[None]:
    """Pin the calling thread to some cores and pause garbage collection; both are restored at the end."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        pin_thread(cores)
        yield
    finally:
        if collecting:
            gc.enable()
        pin_thread(CORES)
