"""Frozen networks that a supernet learns from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas.recipes.groups import ExternalDistillationConfig
from nas.recipes.recipe import Recipe
from nas.runs.run_dir import RunDir
from nas.runs.weights import load_supernet
from nas.torch_backend.supernet import Supernet
from nas.training.data import resolutions_by_size
from search_spaces import Space

INIT = "init"
"""Name of the run that training begins with."""


def load_teachers(
    recipe: Recipe, space: Space, classes: Sequence[str], device: torch.device
) -> list[nn.Module]:
    """The largest subnets of the recipe's teachers, in training mode: they normalise with a batch's moments.

    Args:
        recipe: names them.
        space: of the supernet that learns.
        classes: names of the classes that it learns.
        device: where they compute.

    Raises:
        ValueError: no run, not trained, or one of other classes or channels.
    """
    if not isinstance(recipe.distillation, ExternalDistillationConfig):
        return []
    names = [recipe.init if name == INIT else name for name in recipe.distillation.teachers]
    return [_load(name, space, classes).to(device) for name in names]


def _load(name: str | None, space: Space, classes: Sequence[str]) -> nn.Module:
    if name is None:
        raise ValueError(f"the teacher {INIT} needs init, a run that training begins with")
    run = RunDir.open(name)
    known = run.info().classes or list(classes)  # an imported run may not know their names
    teacher = load_supernet(run)
    config = teacher.space.config
    if known != list(classes) or config.classes != len(classes):
        raise ValueError(f"the teacher {name} must know the {len(classes)} classes of the data set, in order")
    if config.channels != space.config.channels:
        raise ValueError(
            f"the teacher {name} must see images of {space.config.channels} channels, got {config.channels}"
        )
    return Teacher(teacher, list(resolutions_by_size(space)))


class Teacher(nn.Module):
    """The largest subnet of a trained supernet, frozen, for images of several sizes.

    How maps of odd sizes are pooled depends on the size of the images, so each size has its own layers.

    Args:
        supernet: trained.
        sizes: of the images, in pixels.
    """

    def __init__(self, supernet: Supernet, sizes: Sequence[int]) -> None:
        super().__init__()
        self.supernet = supernet.requires_grad_(requires_grad=False).train()
        self.archs = dict.fromkeys(sizes, supernet.space.largest)
        if not supernet.space.resizes:
            config = supernet.space.config
            supernet.space = supernet.space.with_data(
                classes=config.classes, channels=config.channels, resolutions=tuple(sorted(sizes))
            )
            self.archs = {size: supernet.space.largest | {"resolution": size} for size in sizes}

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, channels, size, size)."""
        logits: Tensor = self.supernet(x, self.archs[x.shape[-1]])
        return logits
