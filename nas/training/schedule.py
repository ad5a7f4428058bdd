"""The learning rate of each step."""

from __future__ import annotations

from nas.recipes.phases import Phase, phase_at
from nas.recipes.recipe import Recipe


class LearningRate:
    """Learning rate by step: in each phase a linear warm-up, then the schedule of the recipe.

    Args:
        recipe: the recipe; without phases, the whole training is one phase.
        steps_per_epoch: number of steps per epoch.
    """

    def __init__(self, recipe: Recipe, steps_per_epoch: int) -> None:
        self.peak = recipe.optimizer.lr
        self.schedule = recipe.schedule
        self.epochs = recipe.epochs
        self.steps_per_epoch = steps_per_epoch
        self.total = recipe.epochs * steps_per_epoch
        whole = Phase(epochs=recipe.epochs, warmup_epochs=recipe.schedule.warmup_epochs)
        self.phases = recipe.phases or (whole,)

    def __call__(self, step: int) -> float:
        """The learning rate of step `step`, counted from 0."""
        index, share = phase_at(self.phases, step / self.total)
        phase = self.phases[index]
        stretch = self.epochs / sum(phase.epochs for phase in self.phases)
        epochs, warmup = stretch * phase.epochs, stretch * phase.warmup_epochs
        return self.peak * phase.lr_scale * self._factor(share * epochs, warmup, epochs)

    def _factor(self, epoch: float, warmup: float, epochs: float) -> float:
        if epoch < warmup:
            return (epoch * self.steps_per_epoch + 1) / (warmup * self.steps_per_epoch + 1)
        return self.schedule.factor(epoch, warmup, epochs)
