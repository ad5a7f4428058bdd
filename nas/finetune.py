"""Training one subnet of a run on, perhaps on other data."""

from __future__ import annotations

from pathlib import Path

from nas.progress import Progress, silent
from nas.recipe import Recipe
from nas.run_dir import RunDir
from nas.train import train
from search_spaces import Arch


def finetune(
    source: str | Path,
    arch: Arch,
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    progress: Progress = silent,
) -> RunDir:
    """Train one subnet of a run, beginning with its weights there.

    The result is a run of the same space that evaluate, export and benchmark accept; of its weights, those of
    `arch` alone are of use.

    Args:
        source: the run; `nas.transfer.transfer` says which of its weights are loaded.
        arch: the subnet.
        recipe: data and schedule; its space, sampler and distillation do not count.
        out: the run directory to make.
        resume: go on with the run in `out`; a missing or empty folder is started.
        progress: hears about every step.

    Raises:
        ValueError: as `nas.train.train`, or the arch is not in the space of `source`.
        KeyboardInterrupt: on SIGINT or SIGTERM, after the state was saved.
    """
    RunDir.open(source).space().encode([arch])  # refuses what the space does not offer
    only = {"init": str(source), "arch": arch, "sampler": "subnet", "distillation": "none"}
    space = str(RunDir(source).file("space.yaml"))
    return train(recipe.model_copy(update={"space": space} | only), out, resume=resume, progress=progress)
