"""The run that a command works on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, cast

if TYPE_CHECKING:
    from nas.evaluation.trained_run import TrainedRun
    from search_spaces import Space


def open_space(space_or_run: str) -> Space:
    """The space of this name or YAML file, or that of a run directory."""
    import search_spaces
    from nas.runs.run_dir import RunDir

    if Path(space_or_run).is_dir():
        return RunDir.open(space_or_run).space()
    return search_spaces.get(space_or_run)


Parameters = ParamSpec("Parameters")


def locks_run(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """The command, with the lock of its option `run` held from its first moment."""

    @functools.wraps(command)
    def holding(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        from nas.runs.lock import locked

        with locked(cast(Path, kwargs["run"])):
            command(*args, **kwargs)

    return holding


def open_run(run: Path, dataset: str | None, data_root: Path | None, allow_import: bool) -> TrainedRun:
    """The run that a command works on; torch is imported here and not before."""
    from nas.evaluation.trained_run import TrainedRun

    return TrainedRun.open(run, dataset=dataset, data_root=data_root, allow_import=allow_import)
