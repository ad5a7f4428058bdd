"""Stopping on signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Stopped(KeyboardInterrupt):
    """Raised when a signal has requested to stop; finished work is saved.

    Args:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def exit_code(self) -> int:
        """Exit code by the convention of shells: 128 plus the number of the signal."""
        return 128 + self.number


class StopRequest:
    """The first signal that requested to stop; `number` is None before any signal."""

    number: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: the first one is recorded, the second one raises `Stopped`."""
        if self.number is not None:
            raise Stopped(number)
        self.number = number


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Record SIGINT, SIGTERM and SIGHUP, to stop a loop between two steps; a second signal stops at once.

    Ignored signals remain ignored, such as SIGHUP under `nohup`.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    old = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    handled = [number for number, handler in old.items() if handler is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, request)
    try:
        yield request
    finally:
        for number in handled:
            signal.signal(number, old[number])
