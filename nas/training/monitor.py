"""How a training can be watched: its speed as a table, and all of it in TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from nas.run_dir import SPEED, TENSORBOARD, RunDir

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Monitor:
    """Writes `speed.csv`, and events for TensorBoard where they are wanted.

    Both are of this machine and this hour, and so apart from the log of the training itself, which a stopped
    and resumed training writes as an undisturbed one does.

    Args:
        run: where to.
        images_per_step: over all processes.
        tensorboard: write events for TensorBoard.

    Raises:
        ValueError: TensorBoard is not installed.
    """

    def __init__(self, run: RunDir, images_per_step: int, *, tensorboard: bool) -> None:
        self.run = run
        self.images_per_step = images_per_step
        self.events = _writer(run) if tensorboard else None
        self.last: tuple[int, float] | None = None

    def start(self, step: int) -> None:
        """Training goes on from here."""
        self.last = step, time.monotonic()

    def row(self, row: Mapping[str, float]) -> None:
        """Hear a row of the training log that was just made."""
        assert self.last is not None
        step, now = int(row["step"]), time.monotonic()
        seconds = now - self.last[1]
        images_per_s = (step - self.last[0]) * self.images_per_step / seconds
        self.last = step, now
        speed = pd.DataFrame([{"step": step, "seconds": seconds, "images_per_s": images_per_s}])
        earlier = [self.run.read_csv(SPEED)] if self.run.has(SPEED) else []
        self.run.write_csv(SPEED, pd.concat([*earlier, speed]))
        if self.events:
            for name, value in {**row, "images_per_s": images_per_s}.items():
                self.events.add_scalar(name, value, step)
            self.events.flush()


def _writer(run: RunDir) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            "tensorboard: true needs a package that is not installed: pip install elastic-nas[tensorboard]"
        ) from None
    return SummaryWriter(str(run.file(TENSORBOARD)))
