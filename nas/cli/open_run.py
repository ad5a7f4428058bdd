"""The run that a command works on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.trained_run import TrainedRun


def open_run(run: Path, dataset: str | None, data_root: Path | None, allow_import: bool) -> TrainedRun:
    """The run that a command works on; torch is imported here and not before."""
    from nas.trained_run import TrainedRun

    return TrainedRun.open(run, dataset=dataset, data_root=data_root, allow_import=allow_import)
