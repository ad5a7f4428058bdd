"""One piece of work on a device, from the bundle to checked results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hw_profiles.connections.base import Connection
from hw_profiles.connections.process import Progress
from hw_profiles.measuring.bundle import LOCK
from hw_profiles.measuring.output_check import check_outputs
from hw_profiles.measuring.results import Results
from hw_profiles.measuring.runner import RunnerError, locked


def measure(connection: Connection, bundle: Path, progress: Progress) -> Results:
    """Measure a bundle on a device and refuse wrong answers.

    Args:
        connection: reaches the device.
        bundle: the folder.
        progress: hears about trials.

    Raises:
        ValueError: the device failed or computes wrongly; finished trials are kept.
    """
    results = connection.measure(bundle, progress)
    check_outputs(bundle, results)
    return results


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other profilers out of a folder; it is made where it is missing.

    Raises:
        ValueError: another one is at work there, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(str(folder / LOCK)):
            yield
    except RunnerError as error:
        raise ValueError(str(error)) from None
