"""Saving of checkpoints at intervals, on interruption and after errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pandas as pd
from lightning_fabric import Fabric

from nas.lack_of_memory import is_lack_of_memory
from nas.recipes.groups import CheckpointsConfig
from nas.runs.files import TRAINING_LOG
from nas.runs.lock import RunInUseError, locked
from nas.runs.run_dir import RunDir
from nas.training.accelerator import on_rank_zero
from nas.training.checkpoint import Checkpoints
from nas.training.state import TrainingState

_log = logging.getLogger("nas")


class Checkpointer:
    """Saves checkpoints at intervals and when training stops.

    Args:
        fabric: only its rank 0 writes.
        run: the run directory.
        state: the state to save.
        config: the interval, and the number of checkpoints on disk.
    """

    def __init__(self, fabric: Fabric, run: RunDir, state: TrainingState, config: CheckpointsConfig) -> None:
        self.fabric = fabric
        self.run = run
        self.state = state
        self.checkpoints = Checkpoints(run, config.keep_last)
        self.seconds = 60 * config.every_n_minutes
        self.last_saved = time.monotonic()

    def resume(self) -> bool:
        """Load the newest intact checkpoint; returns whether there is one.

        Raises:
            ValueError: there are checkpoints but none can be used.
        """
        saved = on_rank_zero(self.fabric, lambda: self.checkpoints.load(self.state.state_dict()))
        if saved is not None:
            self.state.load_state_dict(saved)
        return saved is not None

    def save(self) -> None:
        """Save now; all ranks wait for it.

        Raises:
            ValueError: the disk is full or read-only; earlier checkpoints remain.
        """
        on_rank_zero(self.fabric, self._write)

    def save_if_due(self) -> None:
        """Save if the interval has passed; a failure is only logged."""
        if not self.fabric.is_global_zero or time.monotonic() - self.last_saved < self.seconds:
            return
        try:
            self._write()
        except ValueError as error:
            _log.warning("%s", error)

    @contextmanager
    def handle_errors(self) -> Iterator[None]:
        """Context of the steps: after an error, save the state and report the last checkpoint.

        Raises:
            ValueError: training diverged, another process was lost, or an error that a user can fix.
            Exception: any other error, as it is.
        """
        try:
            yield
        except FloatingPointError as error:
            hint = f", which a new run can start from with --init {self.run.path}"
            raise ValueError(f"{error}; {self._last_checkpoint}{hint * self._any_checkpoint}") from None
        except Exception as error:
            self._save_after_error()
            hint = "; continue with --resume" * self._any_checkpoint
            reason = _fixable(error)
            if reason is None:
                _log.error(
                    "training stopped after step %d; %s%s", self.state.step, self._last_checkpoint, hint
                )
                raise
            raise ValueError(f"{reason}; {self._last_checkpoint}{hint}") from error

    def _save_after_error(self) -> None:
        """Save on one rank: on rank 0, which holds the lock of the run, or on another if rank 0 has ended."""
        if self.state.step == 0 or not self.state.consistent:
            return
        with suppress(RunInUseError), locked(self.run.path):
            if self.state.step in self.checkpoints.steps():
                return
            try:
                self._write()
            except ValueError as failure:
                _log.warning("%s", failure)

    @property
    def _any_checkpoint(self) -> bool:
        return bool(self.checkpoints.paths())

    @property
    def _last_checkpoint(self) -> str:
        """The last checkpoint, as part of a message."""
        paths = self.checkpoints.paths()
        return f"the last checkpoint is {paths[0]}" if paths else "there is no checkpoint yet"

    def _write(self) -> None:
        self.last_saved = time.monotonic()
        try:
            self.checkpoints.save(self.state.state_dict(), self.state.step)
            if self.state.log.rows:
                self.run.write_csv(TRAINING_LOG, pd.DataFrame(self.state.log.rows))
        except OSError as error:
            raise ValueError(
                f"the state after step {self.state.step} could not be saved: {error.strerror}; "
                f"{self._last_checkpoint}"
            ) from None


def _fixable(error: Exception) -> str | None:
    """Reason of an error that a user can fix; None for errors of the toolkit itself."""
    if is_lack_of_memory(error):
        return (
            "not enough memory for a training step; use a smaller data.batch_size or a larger "
            "compute.accumulate"
        )
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) if isinstance(error, ValueError | OSError) else None
