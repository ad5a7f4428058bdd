"""Training one subnet of a run on, perhaps on other data."""

from __future__ import annotations

from pathlib import Path

from nas.progress import Progress, silent
from nas.recipes.groups import InplaceDistillationConfig, NoDistillationConfig
from nas.recipes.recipe import Recipe
from nas.recipes.samplers import OneSubnetConfig
from nas.runs.files import SPACE
from nas.runs.run_dir import RunDir
from nas.training.train import train
from search_spaces import Arch


def finetune(
    source: str | Path,
    arch: Arch,
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    check_images: bool | None = None,
    progress: Progress = silent,
) -> RunDir:
    """Train one subnet of a run, beginning with its weights there.

    The result is a run of the same space that evaluate, export and benchmark accept; of its weights, those of
    `arch` alone are of use.

    Args:
        source: the run; `nas.training.transfer.transfer` says which of its weights are loaded.
        arch: the subnet.
        recipe: data and schedule; its space and sampler do not count.
        out: the run directory to make.
        resume: continue the run in `out`; start a new run if the folder is missing or empty.
        check_images: as in `nas.training.train.train`.
        progress: called after every step.

    Raises:
        ValueError: as `nas.training.train.train`, or the arch is not in the space of `source`.
        Stopped: as `train`.
    """
    space = RunDir.open(source).space()
    space.encode([arch])  # refuses what the space does not offer
    changes = {
        "space": str(RunDir(source).file(SPACE)),
        "init": str(source),
        "sampler": OneSubnetConfig(arch=arch),
    }
    if isinstance(recipe.distillation, InplaceDistillationConfig):  # one subnet has nothing to learn from
        changes["distillation"] = NoDistillationConfig()
    return train(
        recipe.replace(changes),
        out,
        resume=resume,
        check_images=check_images,
        progress=progress,
    )
