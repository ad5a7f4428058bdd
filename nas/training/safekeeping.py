"""When a training is saved, and what is said where that fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import torch
from lightning_fabric import Fabric

from nas.recipes.groups import CheckpointsConfig
from nas.runs.files import TRAINING_LOG
from nas.runs.run_dir import RunDir
from nas.training.checkpoint import Checkpoints
from nas.training.devices import first_does
from nas.training.state import TrainingState

_log = logging.getLogger("nas")


class Safekeeping:
    """Saves a training every few minutes and where it stops.

    Args:
        fabric: of the training; its first process writes.
        run: where to.
        state: what is saved.
        config: how often, and how many checkpoints stay.
    """

    def __init__(self, fabric: Fabric, run: RunDir, state: TrainingState, config: CheckpointsConfig) -> None:
        self.fabric = fabric
        self.run = run
        self.state = state
        self.checkpoints = Checkpoints(run, config.keep_last)
        self.seconds = 60 * config.every_n_minutes
        self.last_saved = time.monotonic()

    def resume(self) -> bool:
        """Go back to the newest checkpoint that is whole, if there is one; whether there was.

        Raises:
            ValueError: there are checkpoints but none can be used.
        """
        saved = first_does(self.fabric, lambda: self.checkpoints.load(self.state.state_dict()))
        if saved is not None:
            self.state.load_state_dict(saved)
        return saved is not None

    def save(self) -> None:
        """Save now; all processes wait until it is done.

        Raises:
            ValueError: the disk is full or read-only; what was there is kept.
        """
        first_does(self.fabric, self._write)

    def save_if_due(self) -> None:
        """Save where the last time is long ago; training goes on where that fails."""
        if not self.fabric.is_global_zero or time.monotonic() - self.last_saved < self.seconds:
            return
        try:
            self._write()
        except ValueError as error:
            _log.warning("%s", error)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Around the steps: saves the state where they fail, and says what there is to go back to.

        Raises:
            ValueError: training diverged, another process was lost, or an error that a user can fix.
            Exception: any other error, as it is.
        """
        try:
            yield
        except FloatingPointError as error:
            another = f": another run can begin with it, --init {self.run.path}"
            raise ValueError(f"{error}; {self.kept}{another * bool(self.checkpoints.paths())}") from None
        except Exception as error:
            self._save_what_was_done()
            go_on = ": go on with --resume" * bool(self.checkpoints.paths())
            reason = _fixable(error)
            if reason is None:
                _log.error("training stopped after step %d; %s%s", self.state.step, self.kept, go_on)
                raise
            raise ValueError(f"{reason}; {self.kept}{go_on}") from error

    def _save_what_was_done(self) -> None:
        """Save in any process: those that are left after an error do not include the first one for sure."""
        done = self.state.step > 0 and self.state.step not in self.checkpoints.steps()
        if not (done and self.state.whole):
            return
        try:
            self._write()
        except ValueError as failure:
            _log.warning("%s", failure)

    @property
    def kept(self) -> str:
        """What there is to go back to, as part of a sentence."""
        paths = self.checkpoints.paths()
        return f"the last checkpoint, {paths[0]}, is kept" if paths else "there is no checkpoint yet"

    def _write(self) -> None:
        self.last_saved = time.monotonic()
        try:
            self.checkpoints.save(self.state.state_dict(), self.state.step)
            if self.state.log.rows:
                self.run.write_csv(TRAINING_LOG, pd.DataFrame(self.state.log.rows))
        except OSError as error:
            raise ValueError(
                f"the state after step {self.state.step} could not be saved: {error.strerror}; {self.kept}"
            ) from None


def _fixable(error: Exception) -> str | None:
    """Reason of an error that a user can fix; None for errors of the toolkit itself."""
    no_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if no_memory or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error)):
        return (
            "not enough memory for a training step; use a smaller data.batch_size or a larger "
            "compute.accumulate"
        )
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) if isinstance(error, ValueError | OSError) else None
