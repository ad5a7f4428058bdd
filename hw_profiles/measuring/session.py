"""Measures a bundle on a device and checks the results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hw_profiles.connections.base import Connection
from hw_profiles.connections.process import Progress
from hw_profiles.measuring.output_check import check_outputs
from hw_profiles.measuring.results import Results
from hw_profiles.measuring.runner.bundle_files import LOCK
from hw_profiles.measuring.runner.errors import RunnerError
from hw_profiles.measuring.runner.lock import locked


def measure(connection: Connection, bundle: Path, progress: Progress) -> Results:
    """Measure a bundle on a device and check the outputs of its models.

    Args:
        connection: how the device is reached.
        bundle: the folder.
        progress: called after each trial.

    Raises:
        ValueError: the device failed or computes wrong outputs; finished trials are saved.
    """
    results = connection.measure(bundle, progress)
    check_outputs(bundle, results)
    return results


@contextmanager
def exclusive_access(folder: Path) -> Iterator[None]:
    """Lock a folder against other measurements; it is created if it does not exist.

    Raises:
        ValueError: another measurement is running there.
        OSError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(str(folder / LOCK)):
            yield
    except RunnerError as error:
        raise ValueError(str(error)) from None
