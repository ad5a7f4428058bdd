"""Time of the training steps of several networks, measured in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from nas import tasks
from nas.recipes.recipe import Recipe
from nas.samplers import make_sampler
from nas.training.accelerator import make_fabric
from nas.training.data_order import ShuffledOrder
from nas.training.log import TrainingLog
from nas.training.state import TrainingState
from nas.training.step import TrainingStep
from nas.training.supervision import make_supervision
from search_spaces import Space

ROUNDS = 7


def supernet_step(recipe: Recipe, space: Space, total: int) -> TrainingStep:
    """A training step of a supernet with initial weights.

    Args:
        recipe: the recipe.
        space: the space.
        total: number of steps of the training.
    """
    fabric, task = make_fabric(recipe.compute, recipe.data.batch_size), tasks.get(recipe.task)
    log = TrainingLog(space, 1, task.headline.metric)
    sampler = make_sampler(space, recipe)
    state = TrainingState.start(recipe, space, fabric, sampler, ShuffledOrder(), log)
    return TrainingStep(fabric, state, recipe, task, make_supervision(recipe, task, []), total)


def median_seconds(steps: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median time of each step in seconds; the steps take turns, so that other load affects all equally."""
    times = np.empty((rounds, len(steps)))
    for step in steps.values():  # the first step allocates memory
        step()
    for row in times:
        for i, step in enumerate(steps.values()):
            begin = time.perf_counter()
            step()
            row[i] = time.perf_counter() - begin
    return dict(zip(steps, np.median(times, axis=0).tolist(), strict=True))
