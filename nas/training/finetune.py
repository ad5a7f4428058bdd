"""Fine-tuning of one subnet of a run, on the same or on other data."""

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
    """Fine-tune one subnet of a run, starting with its weights in this run.

    The result is a run of the same space, which can be evaluated, exported and benchmarked. Of its weights,
    only those of `arch` are trained.

    Args:
        source: the run; see `nas.training.transfer.transfer` for the weights that are loaded.
        arch: the subnet.
        recipe: data and schedule; its space and sampler are ignored.
        out: the run directory to create.
        resume: continue the run in `out`; start a new run if the folder is missing or empty.
        check_images: as in `nas.training.train.train`.
        progress: called after every step.

    Raises:
        ValueError: as `nas.training.train.train`, or the arch is not in the space of `source`.
        Stopped: as `train`.
    """
    space = RunDir.open(source).space()
    space.encode([arch])  # raises if the arch is not in the space
    changes = {
        "space": str(RunDir(source).file(SPACE)),
        "init": str(source),
        "sampler": OneSubnetConfig(arch=arch),
    }
    if isinstance(recipe.distillation, InplaceDistillationConfig):  # there is no larger subnet as a teacher
        changes["distillation"] = NoDistillationConfig()
    return train(
        recipe.replace(changes),
        out,
        resume=resume,
        check_images=check_images,
        progress=progress,
    )
