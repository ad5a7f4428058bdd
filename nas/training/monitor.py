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
    """Writes `speed.csv` and, optionally, events for TensorBoard.

    Speed varies from run to run, so it is not part of the training log, which is the same with and without
    interruptions.

    Args:
        run: the run directory.
        step: number of steps completed so far.
        images_per_step: number of images per step of all processes.
        tensorboard: write events for TensorBoard.

    Raises:
        ValueError: TensorBoard is not installed.
    """

    def __init__(self, run: RunDir, step: int, images_per_step: int, *, tensorboard: bool = False) -> None:
        self.run = run
        self.images_per_step = images_per_step
        self.events = _writer(run) if tensorboard else None
        self.last = step, time.monotonic()

    def row(self, row: Mapping[str, float]) -> None:
        """Record a new row of the training log."""
        step, now = int(row["step"]), time.monotonic()
        seconds = now - self.last[1]
        images = (step - self.last[0]) * self.images_per_step
        images_per_s = images / seconds if seconds > 0 else math.nan  # some clocks advance in steps of 16 ms
        self.last = step, now
        try:
            self._write({"step": step, "seconds": seconds, "images_per_s": images_per_s})
            if self.events:
                for name, value in {**row, "images_per_s": images_per_s}.items():
                    self.events.add_scalar(name, value, step)
                self.events.flush()
        except OSError as error:  # training continues
            _log.warning("the speed of step %d could not be written: %s", step, error.strerror)

    def close(self) -> None:
        """Close the files."""
        if self.events:
            self.events.close()

    def _write(self, speed: Mapping[str, float]) -> None:
        earlier = [self.run.read_csv(SPEED)] if self.run.has(SPEED) else []
        self.run.write_csv(SPEED, pd.concat([*earlier, pd.DataFrame([speed])]))


def _writer(run: RunDir) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            "logging.tensorboard needs a package that is not installed: pip install elastic-nas[tensorboard]"
        ) from None
    return SummaryWriter(str(run.file(TENSORBOARD)))
