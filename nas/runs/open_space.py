"""Open a search space by its name, its YAML file or a run directory."""

from __future__ import annotations

from pathlib import Path

import search_spaces
from nas.runs.run_dir import RunDir
from search_spaces import Space


def open_space(space_or_run: str | Path) -> Space:
    """The space with this name, in this YAML file, or of this run directory.

    Raises:
        ValueError: no such space, file or run.
    """
    if Path(space_or_run).is_dir():
        return RunDir.open(space_or_run).space()
    return search_spaces.get(space_or_run)
