"""The interface of all connections to devices."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from hw_profiles.connections.process import Progress
from hw_profiles.measuring.results import Results

Description = dict[str, str | int | float | None]
"""How a device describes itself, see `hw_profiles.measuring.runner.device_description`."""


class NotMeasuredError(ValueError):
    """The user has to copy a bundle to the device first; the message says what to do."""


class Connection(Protocol):
    """A way to reach a device."""

    @property
    def kind(self) -> str:
        """Name of this kind of connection in a profile."""

    @property
    def supports_block_timing(self) -> bool:
        """Whether single blocks can be timed: the runner can, other tools time only whole networks."""

    def describe(self) -> Description | None:
        """The description of the device; None if the device cannot be queried.

        Raises:
            ValueError: the device cannot be reached, or lacks numpy or onnxruntime.
        """

    def measure(self, bundle: Path, progress: Progress) -> Results:
        """Run the trials of a bundle that are missing.

        Args:
            bundle: a folder written by `hw_profiles.measuring.bundle.write_bundle`.
            progress: called after each trial.

        Raises:
            ValueError: the device failed or the connection broke. Finished trials are saved, and calling this
                again continues from them.
        """

    def forget(self, bundle: Path) -> None:
        """Discard the trials left by an earlier, interrupted call."""
