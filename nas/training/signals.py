"""Stopping a training between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from nas.stopping import STOP_SIGNALS, Stopped


class StopRequest:
    """Whether a signal has asked to stop, and which."""

    number: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: the first one stops between two steps, the second one at once."""
        if self.number is not None:
            raise Stopped(number)
        self.number = number


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Notes SIGINT, SIGTERM and SIGHUP, so that training stops between two steps; twice stops at once.

    A signal that is ignored stays so: `nohup` ignores SIGHUP.
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
