"""The learning rate of each step."""

from __future__ import annotations

import math

from nas.recipe import Recipe


class Schedule:
    """Learning rate by step: linear warm-up, then a cosine to zero (Loshchilov and Hutter 2017)."""

    def __init__(self, recipe: Recipe, steps_per_epoch: int) -> None:
        self.peak = recipe.lr
        self.warmup = recipe.warmup_epochs * steps_per_epoch
        self.total = recipe.epochs * steps_per_epoch

    def __call__(self, step: int) -> float:
        """The learning rate of step `step`, counted from 0."""
        if step < self.warmup:
            return self.peak * (step + 1) / (self.warmup + 1)
        done = (step - self.warmup) / max(1, self.total - self.warmup)
        return self.peak * 0.5 * (1 + math.cos(math.pi * done))
