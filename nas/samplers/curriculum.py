"""The sandwich rule with a start at large sizes."""

from __future__ import annotations

import numpy as np

from nas.samplers.base import FixedRule, Step
from nas.samplers.sandwich import Sandwich
from search_spaces import Arch

START = 0.2
"""Share of the training with large sizes only."""
START_OPTIONS = 2
"""Number of options of each choice at the start, counted from the largest."""


class Curriculum(FixedRule):
    """The sandwich rule, in which the smallest sizes join later.

    In the first fifth of the training, subnets only use the two largest options of each choice: the smallest
    subnet of a step and its random subnets are among them. Afterwards, all options are open.

    Args:
        n_random: number of random subnets.
    """

    def __init__(self, n_random: int) -> None:
        self.n_random = n_random

    def subnets(self, step: Step) -> list[Arch]:
        """See `Sampler`."""
        if step.progress >= START:
            return Sandwich(self.n_random).subnets(step)
        n_options = step.space.n_options
        smallest = np.maximum(n_options - START_OPTIONS, 0)
        random = step.rng.integers(smallest, n_options, size=(self.n_random, len(n_options)))
        return [step.largest, *step.decode(np.concatenate([smallest[None], random]))]
