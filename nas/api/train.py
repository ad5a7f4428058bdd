"""`nas.train`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas.api.run import Run
from nas.progress import Progress, silent
from nas.recipes.recipe import Recipe
from nas.training.open_recipe import open_recipe
from nas.training.train import train as train_supernet


def train(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    resume: bool = False,
    check_images: bool | None = None,
    allow_import: bool = False,
    progress: Progress = silent,
) -> Run:
    """Train a supernet into a run directory, as `nas train` does, and open the run.

    Args:
        recipe: name of a shipped recipe, path of a YAML file, or a recipe.
        out: the run directory.
        overrides: other values of keys, such as `epochs=3`, where the recipe is a name or path.
        resume: continue the run in `out`; start a new run if the folder is missing or empty.
        check_images: read all image files before training; None: if there are not too many.
        allow_import: import code that a recipe in a run directory names.
        progress: called after every step.

    Raises:
        ValueError: a recipe that is not valid, missing data, images that cannot be read, an `out`
            that contains something else, or training that diverged.
        nas.stopping.Stopped: on SIGINT, SIGTERM or SIGHUP, after the state was saved; a `KeyboardInterrupt`.
    """
    if not isinstance(recipe, Recipe):
        recipe = open_recipe(str(recipe), overrides, allow_import=allow_import)
    elif overrides:
        raise ValueError("overrides have no effect on a Recipe; change it with its method replace")
    train_supernet(recipe, out, resume=resume, check_images=check_images, progress=progress)
    return Run.open(out, allow_import=True)  # import the code that the recipe names
