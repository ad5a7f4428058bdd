"""Frozen networks that a supernet learns from."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from nas.checkpoint import load_supernet
from nas.recipe import Recipe
from nas.run_dir import RunDir
from nas.supernet import Supernet

INIT = "init"


def load_teachers(recipe: Recipe, supernet: Supernet, classes: Sequence[str]) -> list[nn.Module]:
    """The recipe's teachers, on the device of the supernet.

    Args:
        recipe: names them.
        supernet: as it is before the first step; its largest subnet is the teacher `init`.
        classes: names of the classes that they must know.

    Raises:
        ValueError: no run, not trained, or one of other classes or image channels.
    """
    return [_load(name, supernet, classes) for name in recipe.teachers]


def _load(name: str, supernet: Supernet, classes: Sequence[str]) -> nn.Module:
    if name != INIT:
        channels = supernet.space.config.channels
        supernet, device = _of_run(name, classes), next(supernet.parameters()).device
        supernet.to(device)
        if supernet.space.config.channels != channels:
            raise ValueError(
                f"the teacher {name} must see images of {channels} channels, as the supernet does"
            )
    return supernet.extract(supernet.space.largest).requires_grad_(requires_grad=False).train()


def _of_run(path: str, classes: Sequence[str]) -> Supernet:
    run = RunDir.open(path)
    known = run.info().classes
    if known != list(classes):
        raise ValueError(
            f"the teacher {path} must know the classes of the data set, {list(classes)}, got {known}"
        )
    return load_supernet(run)
