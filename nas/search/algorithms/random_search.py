"""Random search: the baseline of every other."""

from __future__ import annotations

import numpy as np

from nas.search.algorithms.base import Task, Unseen
from nas.search.problem.objectives import Metrics
from search_spaces import Genomes

TRIES = 20
"""Draws in a row without a new subnet after which the space counts as used up."""


class RandomSearch:
    """Uniform random subnets, none twice."""

    def __init__(self, task: Task) -> None:
        self._space, self._rng = task.problem.space, task.rng
        self._unseen = Unseen(self._space)

    def ask(self, n: int) -> Genomes:
        """See `Optimizer`."""
        found = self._unseen.take(self._space.sample(self._rng, n))
        for _ in range(TRIES):
            if len(found) < n:
                more = self._unseen.take(self._space.sample(self._rng, n - len(found)))
                found = np.concatenate([found, more])
        return found

    def tell(self, genomes: Genomes, metrics: Metrics) -> None:
        """See `Optimizer`."""
        self._unseen.take(genomes)
