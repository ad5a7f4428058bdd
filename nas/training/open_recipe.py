"""The recipe that a user names for training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas.plugins import check_import_allowed
from nas.recipes import recipe
from nas.recipes.recipe import Recipe
from nas.runs.files import RUN


def open_recipe(name_or_path: str, overrides: Sequence[str] = (), *, allow_import: bool = False) -> Recipe:
    """The recipe with this name or in this file, with `overrides` such as `optimizer.lr=0.2`.

    Raises:
        ValueError: as `nas.recipes.recipe.load`, or the file is part of a run directory and names code that
            is neither in `overrides` nor allowed to be imported.
    """
    loaded = recipe.load(name_or_path, overrides)
    if (Path(name_or_path).parent / RUN).exists():
        given = {override.partition("=")[0].strip() for override in overrides}
        if not {"data", "data.dataset"} & given:
            check_import_allowed("dataset", loaded.data.dataset, allow_import=allow_import)
        if "task" not in given:
            check_import_allowed("task", loaded.task, allow_import=allow_import)
        if not {"sampler", "sampler.kind"} & given:
            check_import_allowed("sampler", loaded.sampler.kind, allow_import=allow_import)
    return loaded
