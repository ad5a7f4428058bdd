"""Fine-tuning of one subnet of a run, on the same or on other data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nas.onnx_backend.quantize import scheme
from nas.progress import Progress, silent
from nas.recipes.groups import InplaceDistillationConfig, NoDistillationConfig, RegularizationConfig
from nas.recipes.recipe import Recipe
from nas.recipes.samplers import OneSubnetConfig
from nas.runs.files import SPACE
from nas.runs.run_dir import RunDir
from nas.training.train import train
from search_spaces import Arch
from search_spaces.precision_space import float_arch, with_precision
from search_spaces.tensors import INT8


def finetune(
    source: str | Path,
    arch: Arch,
    recipe: Recipe,
    out: str | Path,
    *,
    int8_for: str | None = None,
    resume: bool = False,
    check_images: bool | None = None,
    progress: Progress = silent,
) -> RunDir:
    """Fine-tune one subnet of a run, starting with its weights in this run.

    The result is a run of the same space, which can be evaluated, exported and benchmarked. Only the weights
    of `arch` are trained in it.

    Args:
        source: the run; see `nas.training.transfer.transfer` for the weights that are loaded.
        arch: the subnet, which may choose the precision of its parts.
        recipe: data and schedule; its space and sampler are ignored.
        out: the run directory to create.
        int8_for: train with the rounding of the INT8 file for this instruction set, in the parts for which
            `arch` chooses INT8, or in all parts if it chooses no precisions; without dropout. Ranges of
            activations are taken from each batch. None: without rounding.
        resume: continue the run in `out`; start a new run if the folder is missing or empty.
        check_images: as in `nas.training.train.train`.
        progress: called after every step.

    Raises:
        ValueError: as `nas.training.train.train`, or the arch is not in the space of `source`, or there is no
            INT8 scheme for the instruction set.
        Stopped: as `train`.
    """
    space = RunDir.open(source).space()
    plain = float_arch(space, arch)
    space.encode([plain])  # raises if the arch is not in the space
    changes: dict[str, Any] = {
        "space": str(RunDir(source).file(SPACE)),
        "init": str(source),
        "sampler": OneSubnetConfig(arch=plain),
    }
    if isinstance(recipe.distillation, InplaceDistillationConfig):  # there is no larger subnet as a teacher
        changes["distillation"] = NoDistillationConfig()
    if int8_for is not None:
        scheme(int8_for)  # raises if there is none
        own = arch if arch != plain else with_precision(space, "from").uniform(plain, INT8)
        changes |= {
            "finetuning.quantise": own,
            "finetuning.int8_for": int8_for,
            "regularization": RegularizationConfig(),
        }
    return train(
        recipe.replace(changes),
        out,
        resume=resume,
        check_images=check_images,
        progress=progress,
    )
