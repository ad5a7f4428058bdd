"""The recipe that a command trains by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.recipes.recipe import Recipe


def open_recipe(config: str, changes: Sequence[str], allow_import: bool) -> Recipe:
    """The recipe of this name or file, with `changes` such as `optimizer.lr=0.2`.

    Raises:
        ValueError: as `nas.recipes.recipe.load`, or the file lies in a run directory and names code that the
            user neither gave in `changes` nor allowed to be imported.
    """
    from nas.plugins import refuse_import
    from nas.recipes import recipe
    from nas.runs.files import RUN

    loaded = recipe.load(config, changes)
    if (Path(config).parent / RUN).exists():
        given = {change.partition("=")[0].strip() for change in changes}
        if not {"data", "data.dataset"} & given:
            refuse_import("dataset", loaded.data.dataset, allow_import=allow_import)
        if "task" not in given:
            refuse_import("task", loaded.task, allow_import=allow_import)
        if not {"sampler", "sampler.kind"} & given:
            refuse_import("sampler", loaded.sampler.kind, allow_import=allow_import)
    return loaded
