"""Monitoring of a training: a table of its speed, and TensorBoard events."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from nas.runs.files import SPEED, TENSORBOARD
from nas.runs.run_dir import RunDir

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_log = logging.getLogger("nas")


class Monitor:
    """Writes `speed.csv` and, optionally, events for TensorBoard, and logs what limits the speed.

    Speed varies from run to run, so it is not part of the training log, which is the same with and without
    interruptions. `loader_images_per_s` is the speed of the loader alone, from the time that its processes
    worked, and `step_images_per_s` is the speed of the training steps alone. Loader and steps run at the same
    time, so both speeds are lower if they share the cores.

    Args:
        run: the run directory.
        processes: number of processes that load images; 0: the training process loads them.
        tensorboard: write events for TensorBoard.

    Raises:
        ValueError: TensorBoard is not installed.
    """

    def __init__(self, run: RunDir, *, processes: int = 0, tensorboard: bool = False) -> None:
        self.run = run
        self.processes = processes
        self.events = _writer(run) if tensorboard else None
        self.last_row = time.monotonic()
        self.images, self.loading_seconds, self.step_seconds = 0, 0.0, 0.0
        """Sums since the last row."""
        self.limited_by_loader: bool | None = None

    def step(self, images: int, loading_seconds: float, step_seconds: float) -> None:
        """Record a step.

        Args:
            images: number of images of all processes.
            loading_seconds: time that one process worked to load this rank's images.
            step_seconds: time of the step without loading.
        """
        self.images += images
        self.loading_seconds += loading_seconds
        self.step_seconds += step_seconds

    def row(self, row: Mapping[str, float]) -> None:
        """Record a new row of the training log."""
        step, now = int(row["step"]), time.monotonic()
        seconds = now - self.last_row
        speed = {
            "images_per_s": _rate(self.images, seconds),
            "loader_images_per_s": _rate(self.images * max(1, self.processes), self.loading_seconds),
            "step_images_per_s": _rate(self.images, self.step_seconds),
        }
        self.last_row = now
        self.images, self.loading_seconds, self.step_seconds = 0, 0.0, 0.0
        self._report(speed)
        try:
            self._write({"step": step, "seconds": seconds, **speed})
            if self.events:
                for name, value in {**row, **speed}.items():
                    self.events.add_scalar(name, value, step)
                self.events.flush()
        except OSError as error:  # training continues
            _log.warning("the speed of step %d could not be written: %s", step, error.strerror)

    def close(self) -> None:
        """Close the files."""
        if self.events:
            self.events.close()

    def _report(self, speed: Mapping[str, float]) -> None:
        """Log the speeds after the first row, and whenever another part becomes the slower part."""
        limited_by_loader = speed["loader_images_per_s"] < speed["step_images_per_s"]
        if limited_by_loader == self.limited_by_loader:
            return
        self.limited_by_loader = limited_by_loader
        _log.info(
            "%.0f images/s, limited by the %s (alone: loader with data.workers=%d %.0f, training step %.0f)",
            speed["images_per_s"],
            "loader" if limited_by_loader else "training step",
            self.processes,
            speed["loader_images_per_s"],
            speed["step_images_per_s"],
        )

    def _write(self, speed: Mapping[str, float]) -> None:
        earlier = [self.run.read_csv(SPEED)] if self.run.has(SPEED) else []
        self.run.write_csv(SPEED, pd.concat([*earlier, pd.DataFrame([speed])]))


def _rate(images: int, seconds: float) -> float:
    return images / seconds if seconds > 0 else math.nan  # some clocks advance in steps of 16 ms


def _writer(run: RunDir) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            "logging.tensorboard needs a package that is not installed: pip install elastic-nas[tensorboard]"
        ) from None
    return SummaryWriter(str(run.file(TENSORBOARD)))
