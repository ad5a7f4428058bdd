"""The run that a command works on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.trained_run import TrainedRun
    from search_spaces import Space


def open_space(space_or_run: str) -> Space:
    """The space of this name or YAML file, or that of a run directory."""
    import search_spaces
    from nas.run_dir import RunDir

    if Path(space_or_run).is_dir():
        return RunDir.open(space_or_run).space()
    return search_spaces.get(space_or_run)


def open_run(run: Path, dataset: str | None, data_root: Path | None, allow_import: bool) -> TrainedRun:
    """The run that a command works on; torch is imported here and not before."""
    from nas.trained_run import TrainedRun

    return TrainedRun.open(run, dataset=dataset, data_root=data_root, allow_import=allow_import)
