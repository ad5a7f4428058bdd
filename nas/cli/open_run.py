"""Open and lock the run of a command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, cast

if TYPE_CHECKING:
    from nas.evaluation.trained_run import TrainedRun


Parameters = ParamSpec("Parameters")


def locks_run(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Decorator that locks the run in the argument `run` while a command works on it."""

    @functools.wraps(command)
    def holding(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        from nas.runs.lock import locked

        with locked(cast(Path, kwargs["run"])):
            command(*args, **kwargs)

    return holding


def open_run(run: Path, dataset: str | None, data_root: Path | None, allow_import: bool) -> TrainedRun:
    """Open a run. The import of torch happens here, so that commands without a run stay fast."""
    from nas.evaluation.trained_run import TrainedRun

    return TrainedRun.open(run, dataset=dataset, data_root=data_root, allow_import=allow_import)
