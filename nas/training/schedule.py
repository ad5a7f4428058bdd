"""The learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from nas.recipes.phases import Phase, phase_at
from nas.recipes.recipe import Recipe

Decay = Callable[[float, float, float, Recipe], float]
"""Share of the peak after the warm-up, from (epochs done, epochs of warm-up, epochs of all, recipe)."""


def _half_cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


DECAYS: Mapping[str, Decay] = {
    "cosine": lambda done, warmup, all, recipe: _half_cosine((done - warmup) / max(all - warmup, 1e-9)),
    "cosine_from_start": lambda done, warmup, all, recipe: _half_cosine(done / all),
    "exponential": lambda done, warmup, all, recipe: recipe.lr_decay ** (done // recipe.lr_decay_epochs),
    "constant": lambda done, warmup, all, recipe: 1.0,
}
"""Cosine: Loshchilov and Hutter 2017; exponential: BigNAS, Yu et al. 2020, counted from the start."""


class Schedule:
    """Learning rate by step: in each phase a linear warm-up, then the recipe's decay.

    Args:
        recipe: names the decay; without phases, all of the training is one.
        steps_per_epoch: steps of an epoch of the images.
    """

    def __init__(self, recipe: Recipe, steps_per_epoch: int) -> None:
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch
        self.total = recipe.epochs * steps_per_epoch
        self.phases = recipe.phases or (Phase(epochs=recipe.epochs, warmup_epochs=recipe.warmup_epochs),)

    def __call__(self, step: int) -> float:
        """The learning rate of step `step`, counted from 0."""
        index, share = phase_at(self.phases, step / self.total)
        phase = self.phases[index]
        stretch = self.recipe.epochs / sum(phase.epochs for phase in self.phases)
        epochs, warmup = stretch * phase.epochs, stretch * phase.warmup_epochs
        return self.recipe.lr * phase.lr * self._factor(share * epochs, warmup, epochs)

    def _factor(self, done: float, warmup: float, epochs: float) -> float:
        if done < warmup:
            return (done * self.steps_per_epoch + 1) / (warmup * self.steps_per_epoch + 1)
        decay = DECAYS[self.recipe.schedule](done, warmup, epochs, self.recipe)
        return max(self.recipe.lr_floor, decay)
