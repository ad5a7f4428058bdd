"""What every way to reach a device can do."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from hw_profiles.connections.process import Progress
from hw_profiles.measuring.results import Results

Description = dict[str, str | int | float | None]
"""What a device says about itself: see `hw_profiles.measuring.runner.device`."""


class NotMeasuredError(ValueError):
    """A person has to carry the bundle; the message says where and what comes next."""


class Connection(Protocol):
    """A way to reach a device."""

    @property
    def kind(self) -> str:
        """Its name in a profile."""

    @property
    def supports_block_timing(self) -> bool:
        """Whether the runner measures there, small graphs of a table included; else whole networks alone."""

    def describe(self) -> Description | None:
        """What the device is; None where nobody can ask.

        Raises:
            ValueError: the device cannot be reached, or lacks numpy or onnxruntime.
        """

    def measure(self, bundle: Path, progress: Progress) -> Results:
        """Do the trials of a bundle that are still missing.

        Args:
            bundle: a folder written by `hw_profiles.measuring.bundle.write_bundle`.
            progress: hears about trials.

        Raises:
            ValueError: the device failed or vanished; finished trials are kept, and the same call goes on.
        """

    def forget(self, bundle: Path) -> None:
        """Drop the trials that an earlier call has left."""
